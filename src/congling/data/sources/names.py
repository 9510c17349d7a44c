"""The names public data sets use: of fields that hold what is said, of speakers, of what is beside it.

Names of fields are compared without regard to case, and stand in the order in which they are tried.
"""

ROLES = {
    **dict.fromkeys(("system", "developer", "sys", "系统"), "system"),
    **dict.fromkeys(
        (
            "user",
            "human",
            "prompter",
            "usr",
            "customer",
            "client",
            "patient",
            "question",
            "q",
            "用户",
            "人类",
            "客户",
            "顾客",
            "患者",
            "病人",
            "问",
            "提问",
            "问题",
        ),
        "user",
    ),
    **dict.fromkeys(
        (
            "assistant",
            "gpt",
            "bot",
            "model",
            "ai",
            "chatgpt",
            "gpt4",
            "gpt-4",
            "gpt-3.5-turbo",
            "chatglm",
            "claude",
            "bard",
            "bing",
            "gemini",
            "llama",
            "qwen",
            "moss",
            "chatbot",
            "agent",
            "doctor",
            "answer",
            "a",
            "助手",
            "助理",
            "客服",
            "机器人",
            "模型",
            "医生",
            "答",
            "回答",
            "答案",
            "function_call",
            "tool_call",
            "tool_calls",
        ),
        "assistant",
    ),
    **dict.fromkeys(
        (
            "tool",
            "observation",
            "function",
            "function_response",
            "function_result",
            "tool_response",
            "tool_result",
            "tool_results",
            "tool_output",
            "ipython",
            "environment",
            "工具",
        ),
        "tool",
    ),
}
"""What the roles of all data sets are called here; a call of a function is something the assistant writes."""

SPEAKER = ("role", "from", "speaker", "author", "sender")
SAID = ("content", "value", "text", "message", "utterance", "contents", "内容")
REASONING = (
    "reasoning_content", "reasoning", "thinking", "thought", "thoughts", "think", "chain_of_thought", "cot",
    "complex_cot", "inner thoughts", "思考",
)  # fmt: skip
CALLS = ("tool_calls", "function_call", "tool_call")
TOOLS = ("tools", "functions", "available_tools")
SYSTEM = ("system", "system_prompt", "system_message", "meta_instruction", "系统")
FLAGS = ("loss", "train", "trainable", "training", "learn", "weight", "loss_mask", "step_loss_mask", "mask")
"""False or 0 on an answer: it is not to be learnt."""

TALK = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "data")
ALTERNATING = ("data", "dialogue", "dialog", "turns", "history")
"""Of these, lists of plain texts are turns of user and assistant by turns (UltraChat)."""
HISTORY = ("history", "histories", "历史")
TITLE = ("title", "headword", "word", "词条", "标题", "題", "title_zh")
MEANING = ("definition", "definitions", "explanation", "meaning", "释义", "解释")
SOUNDS = ("bopomofo", "pinyin")
ASK = (
    "instruction", "prompt", "question", "query", "problem", "ask", "问题", "指令", "提问",
)  # fmt: skip
ASK_LATE = ("human", "user", "q", "问", "用户", "input", "inputs")
"""What asks where none of :data:`ASK` is there."""
ANSWER = (
    "output", "response", "answer", "answers", "completion", "solution", "target", "chosen", "答案", "回答",
    "reply", "输出", "回复",
)  # fmt: skip
ANSWER_LATE = ("assistant", "bot", "gpt", "ai", "moss", "a", "答", "助手", "targets", "content")
BEFORE, AFTER = ("context",), ("input",)
OPTIONS = "ABCDEFGH"
CHOICES = ("choices", "options", "选项")

META = ("kind", "category", "department", "domain", "subject", "task", "source")
"""Fields that say what a row is about: losses are told apart by the first of them."""
ABOUT = frozenset((
    *META, "id", "_id", "idx", "index", "no", "uid", "uuid", "guid", "hash", "url", "link", "lang",
    "language", "locale", "date", "time", "timestamp", "created_at", "updated_at", "created",
    "created_timestamp", "model", "model_name", "generator", "engine", "license", "licence", "author",
    "name", "tag", "tags", "topic", "topics", "label", "labels", "type", "split", "dataset",
    "data_source", "dataset_name", "repo_name", "version", "score", "scores", "score_chosen",
    "score_rejected", "margin", "rating", "ratings", "quality", "reward", "rewards", "difficulty",
    "level", "votes", "num_turns", "turn", "length", "tokens", "token_count", "finish_reason", "rank",
    "emotion", "wordings", "contents", "extra_info", "metadata", "meta", "path", "file", "filename",
    "form", "year", "of",
))  # fmt: skip
"""Fields that are about a row and hold nothing that is said in it; so do all that end in ``_id``."""
