from congling.core.errors import UserError


def test_message_names_what_where_value_and_remedy():
    text = str(UserError("unknown key", where="recipe.toml", value="setps", hint="did you mean 'steps'?"))
    assert text == "unknown key: 'setps' (in recipe.toml)\n  help: did you mean 'steps'?"


def test_long_values_are_cut():
    assert len(str(UserError("bad value", value="x" * 10_000))) < 200
