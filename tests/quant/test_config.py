"""One class a method, chosen by its name; wrong values are refused by name."""

import pytest
from pydantic import TypeAdapter, ValidationError

from congling.quant.config import GptqConfig, HqqConfig, QuantConfig, RtnConfig

ANY: TypeAdapter[QuantConfig] = TypeAdapter(QuantConfig)


@pytest.mark.parametrize(("method", "kind"), [("rtn", RtnConfig), ("gptq", GptqConfig), ("hqq", HqqConfig)])
def test_the_method_chooses_the_class(method: str, kind: type):
    found = ANY.validate_python({"method": method, "bits": 3, "group_size": -1, "sym": True})
    assert type(found) is kind
    assert ANY.validate_json(ANY.dump_json(found)) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "gtpq"},
        {"method": "rtn", "bits": 5},
        {"method": "rtn", "group_size": -2},
        {"method": "rtn", "damp_percent": 0.1},
        {"method": "gptq", "damp_percent": 0},
    ],
)
def test_what_no_method_has_is_refused(wrong: dict):
    with pytest.raises(ValidationError):
        ANY.validate_python(wrong)
