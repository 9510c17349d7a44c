"""A chat with something that is no model, for a terminal of the tests: it says back what it hears."""

import sys
import time
from pathlib import Path

if sys.argv[2] == "readline":
    sys.modules["prompt_toolkit"] = None  # type: ignore[assignment]  # as if it were not installed

from congling.infer.history import History
from congling.stages import chat


class Echo:
    """Says back what it hears; what it hears of 'long' without an end."""

    notices: tuple[str, ...] = ()
    said = ""

    def answer(self, text: str):
        self.said = text
        if text == "long":
            yield "begun "
            while True:
                time.sleep(0.05)
                yield "."
        yield f"<{text}>".replace("\n", "|")

    def retry(self):
        return iter([f"<{self.said} again>"])


print("ready")
chat.run(Echo(), History(Path(sys.argv[1])))  # type: ignore[arg-type]
print("left")
