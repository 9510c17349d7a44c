"""The tables of a run that began with a trained model: what changed, of which rows, by which settings."""

from congling.report.advice import given
from congling.report.measures import columns, look_handed_on, measure
from congling.report.record import RunRecord, mapping, numeric
from congling.report.run_tables import Table
from congling.report.settings import flattened, shown
from congling.report.weights import lengths_of, model_of, parameters_of, trained_of

_OWN = ("preference", "reward", "grpo", "ppo", "rollout", "distill", "adapter", "longlora")
"""Tables of the configuration that one method or another has."""
_TRAIN = (
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "metric_for_best_model",
    "optimizer.kind",
    "optimizer.learning_rate",
    "schedule.kind",
    "schedule.warmup_ratio",
    "precision",
    "seed",
)
_PLAIN = ("rewards", "num_train_epochs", "template", "neftune_noise_alpha", "loss_reduction")
_DATA = {
    "rows": "{}s to learn from",
    "held_out": "{}s held out",
    "tokens": "tokens in all",
    "learnt": "tokens in the loss",
    "longest": "tokens of the longest",
}


def change(run: RunRecord) -> Table:
    """Held-out numbers before the first step, of the best checkpoint, and at the end."""
    looks, handed_on = run.looks, look_handed_on(run)
    title = "On held-out rows"
    if handed_on is None:
        return Table(title, (), ())
    step, look = handed_on
    last = max(looks)
    places = [("before training", looks.get(0)), (f"best (step {step:,})", look)]
    places += [(f"last (step {last:,})", looks[last])] if last != step else []
    names = dict.fromkeys(
        name.removeprefix("validation_") for name in columns(run) if name.startswith("validation_")
    )
    rows = []
    for name in names:
        what = measure(run, name)
        cells = ["" if at is None or name not in at else what.show(at[name]) for _, at in places]
        rows.append((what.title, what.unit, *cells))
    head = ("what", "unit", *(place for place, _ in places))
    return Table(title, head, tuple(rows), frozenset(range(2, len(head))))


def data(run: RunRecord) -> Table:
    """What was learnt from: files, rows, tokens, and what was left out and why."""
    known, noun = mapping(run.plan.get("data")), run.method.counted
    named = known.get("noun")
    noun = named if isinstance(named, str) else noun
    sources = mapping(run.config.get("data")).get("sources")
    rows = [("file", str(one)) for one in sources[:20]] if isinstance(sources, list) else []
    if isinstance(sources, list) and len(sources) > len(rows):
        rows.append(("further files", f"{len(sources) - len(rows):,}"))
    rows += [
        (label.format(noun), f"{value:,.0f}")
        for key, label in _DATA.items()
        if (value := numeric(known.get(key))) is not None
    ]
    faults = mapping(known.get("faults"))
    rows += [
        (f"{kind} (left out or mended)", f"{count:,.0f}")
        for kind in faults
        if (count := numeric(faults[kind]))
    ]
    return Table("Data", ("what", "how much"), tuple(rows), frozenset({1}))


def settings(run: RunRecord) -> Table:
    """The settings that make the method, and whether they were given or the plan chose them."""
    config = run.config
    keys = [name for name in _PLAIN if name in config]
    keys += [name for table in _OWN for name in flattened(mapping(config.get(table)), table)]
    keys += [f"train.{name}" for name in _TRAIN]
    values = flattened(config)
    told = isinstance(run.plan.get("given"), list)
    rows = [
        (key, shown(values[key]), *(("recipe" if given(run, key) else "plan",) if told else ()))
        for key in dict.fromkeys(keys)
        if key in values
    ]
    return Table("Settings", ("setting", "value", *(("from",) if told else ())), tuple(rows))


def model(run: RunRecord) -> Table:
    """The base, how large it is, and how much of it was trained."""
    base, config = mapping(run.plan.get("base")), model_of(run)
    total, trained = parameters_of(run), trained_of(run)
    rows = [("base", str(base["path"]))] if isinstance(base.get("path"), str) else []
    rows += [("teacher", str(run.plan["teacher"]))] if isinstance(run.plan.get("teacher"), str) else []
    if config is not None:
        rows += [
            ("blocks × width", f"{config.num_hidden_layers} × {config.hidden_size}"),
            ("vocabulary", f"{config.vocab_size:,}"),
        ]
        rows.append(("context", lengths_of(run) or f"{config.max_position_embeddings:,} tokens"))
    rows += [("parameters", f"{total:,}")] if total else []
    if trained and total:
        adapter = run.config.get("adapter") is not None or trained < total
        of = f"{trained:,} in an adapter beside them" if adapter else "all of them"
        rows.append(("trained", of + (f", {trained / total:.1%} as many" if adapter else "")))
    return Table("Model", ("what", "how much"), tuple(rows))


def origin(run: RunRecord) -> Table:
    """Of a run on texts: what it began with besides random weights, who teaches it, and how."""
    base, teacher = mapping(run.plan.get("base")).get("path"), run.plan.get("teacher")
    rows = [("start", base)] if isinstance(base, str) else []
    rows += [("context", lengths)] if (lengths := lengths_of(run)) else []
    rows += [("teacher", teacher)] if isinstance(teacher, str) else []
    rows += [
        (name, shown(value))
        for name, value in flattened(mapping(run.config.get("distill")), "distill").items()
    ]
    return Table("Start and teacher", ("what", "value"), tuple(rows))


def method_tables(run: RunRecord) -> tuple[Table, ...]:
    """Every table that has rows, of what a method has besides the tables of any run."""
    texts = run.method.corpus
    made = (origin(run),) if texts else (change(run), data(run), settings(run), model(run))
    return tuple(table for table in made if table.rows)
