"""Configs: every key known, every wrong one named with its mend, no secret shown."""

import difflib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

import stream_em as sem
from stream_em.config import Config, FilesSource, LearnerSection, Run, Serve, SinkSection, Snapshots
from stream_em.configfile import load_config, parse_config, text_of
from stream_em.configschema import config_schema
from stream_em.learning.drift import DriftSettings
from stream_em.pipeline.assemble import new_learner
from stream_em.streams.kafka.connection import Connection
from stream_em.streams.kafka.settings import KafkaSettings

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL = '[source]\ntype = "files"\npath = "x.csv"\n[model]\ntype = "gaussian-mixture"\n'
SECTIONS = {
    "source": FilesSource,
    "model": sem.GaussianMixture,
    "learner": LearnerSection,
    "drift": DriftSettings,
    "snapshots": Snapshots,
    "run": Run,
    "serve": Serve,
    "kafka": Connection,
}
KAFKA = SMALL.replace('type = "files"\npath = "x.csv"\n', 'type = "kafka"\ntopics = "t"\n')


def refused(text, *overrule, environment=None):
    with pytest.raises(sem.InputError) as caught:
        parse_config(text, "c.toml", overrule, environment or {})
    message = str(caught.value)
    assert message.startswith("c.toml: ")
    assert "\n" not in message
    return message


def test_defaults_are_those_of_the_api():
    config = parse_config(SMALL, "c.toml").config
    assert config.model == sem.GaussianMixture()
    assert new_learner(config).settings == sem.Learner(sem.GaussianMixture()).settings
    assert config.learner.params is None
    assert config.source.on_error == "fail"
    assert config.serve is None


def misspellings():
    for section, kind in SECTIONS.items():
        names = [field.name for field in msgspec.structs.fields(kind)]
        for name in [*names, "type"] if section in ("source", "model") else names:
            for wrong in (name[:-1] + "x" if len(name) < 6 else name[:-1], name + "s", name.replace("_", "-") + "e"):
                if wrong not in names:
                    yield section, name, wrong
    for section, kind in (("sinks", SinkSection), ("kafka-source", KafkaSettings)):
        for name in [field.name for field in msgspec.structs.fields(kind)]:
            yield section, name, name + "x"


@pytest.mark.parametrize(("section", "name", "wrong"), list(misspellings()))
def test_each_misspelt_key_is_answered_with_the_right_one(section, name, wrong):
    text = SMALL
    if section == "kafka-source":
        text = KAFKA.replace("[source]\n", f"[source]\n{wrong} = 1\n")
    elif section in ("source", "model"):
        text = text.replace(f"[{section}]\n", f"[{section}]\n{wrong} = 1\n")
        if name == "type":
            text = text.replace('type = "files"\n' if section == "source" else 'type = "gaussian-mixture"\n', "")
    elif section == "sinks":
        text += f'[[sinks]]\nwhat = "events"\n{wrong} = 1\n'
    else:
        text += f"[{section}]\n{wrong} = 1\n"
    message = refused(text)
    assert repr(name) in message or (name == "type" and "type is missing" in message)
    assert wrong in message


@pytest.mark.parametrize("name", ["source", "model", "learner", "snapshots", "sinks", "run", "serve"])
def test_each_misspelt_table_is_answered_with_the_right_one(name):
    wrong = name + "s" if name != "sinks" else "sink"
    assert f"did you mean '{name}'?" in refused(SMALL + f"[{wrong}]\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('kafka.client = "confluent"', "did you mean 'confluent-kafka'?"),
        ('kafka.bootstrap_servers = ""', "[kafka]: bootstrap_servers: name at least one"),
        ('kafka.security_protocol = "SASL_SSL"', "needs sasl_mechanism, sasl_username and sasl_password"),
        ('kafka.sasl_username = "me"', "set security_protocol to SASL_SSL or SASL_PLAINTEXT"),
        ('kafka.sasl_password = "hunter2"', "kafka.sasl_password: a secret must not be written down"),
        ('kafka.options.ssl_password = "hunter2"', "kafka.options.ssl_password: a secret must not be written down"),
        ("kafka.options = 3", "kafka.options: expected"),
        ('model.n_components = "three"', "model.n_components: expected a whole number, not 'three'"),
        ("model.n_components = 2.5", "model.n_components: expected a whole number, not 2.5"),
        ("model.n_components = 0", "n_components must be at least 1"),
        ('model.covariance_type = "ful"', "did you mean 'full'?"),
        ('source.on_error = "dead-leter"', "did you mean 'dead-letter'?"),
        ("source.block_size = 0", "source.block_size: expected a whole number at least 1"),
        ("source.path = 3", "source.path: expected a text or a list of texts, not 3"),
        ("source.max_error_rate = 2", "source.max_error_rate: expected a number above 0, at most 1"),
        ('source.follow = "yes"', "source.follow: expected true or false"),
        ('learner.stepsize = "polynomal:0.6"', "polynomial:0.6"),
        ("learner.stepsize = 0.6", "learner.stepsize: expected a text"),
        ("learner.refresh_every = 0", "refresh_every must be a whole number, 1 or more"),
        ("snapshots.every_seconds = -1", "snapshots.every_seconds: expected a number above 0"),
        ("snapshots.every_seconds = nan", "snapshots.every_seconds"),
        ("serve.port = 70000", "serve.port: expected a whole number at least 0, at most 65535"),
        ('model.type = "gaussian-mixtur"', "did you mean gaussian-mixture?"),
        ('source.type = "kafk"', "source.type: there is no source 'kafk'"),
        ("sinks = 3", "write [[sinks]]"),
        ("run = 3", "run must be a table"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(line, said):
    table, _, key = line.partition(" ")[0].partition(".")
    raw = tomllib.loads(SMALL)
    new = tomllib.loads(line)
    for name, value in new.items():
        raw[name] = {**raw.get(name, {}), **value} if isinstance(value, dict) else value
    message = refused(tomlkit.dumps(raw))
    assert said in message
    assert table in message
    assert key in message


@pytest.mark.parametrize("text", ["[model]\ntype = 'gaussian-mixture'\n", "[source]\ntype='files'\npath='x'\n", ""])
def test_what_is_missing_is_named(text):
    assert "is missing" in refused(text)


def test_what_is_not_toml_names_the_line():
    assert "line 2" in refused("[source]\npath = = 3\n")


def test_two_sinks_must_not_share_a_file():
    sink = '[[sinks]]\nwhat = "events"\ntype = "csv"\n'
    assert "two of them write to 'events.csv'" in refused(SMALL + sink + sink)
    assert "kept by the run" in refused(SMALL + sink + 'path = "journal.db"\n')
    assert "kept by the run" in refused(SMALL + sink + 'path = "partitions/events.csv"\n')


def test_a_transaction_must_not_last_longer_than_the_broker_allows():
    sink = '[[sinks]]\nwhat = "events"\ntype = "kafka"\ntopic = "out"\nexactly_once = true\n'
    assert "every_seconds: is at most 300" in refused(KAFKA + sink + "[snapshots]\nevery_seconds = 301\n")
    parse_config(KAFKA + sink + "[snapshots]\nevery_seconds = 300\n", "c.toml")
    assert "exactly_once needs a source of type kafka" in refused(SMALL + sink)


def test_set_overrules_and_keeps_the_comments():
    loaded = parse_config("# mine\n" + SMALL, "c.toml", ["model.n_components=4", "run.folder=here", "source.path=a=b"])
    assert loaded.config.model.n_components == 4
    assert (loaded.config.run.folder, loaded.config.source.path) == ("here", "a=b")
    assert loaded.text.startswith("# mine\n")
    assert parse_config(loaded.text, "again").config == loaded.config
    for wrong in ("n_components=4", "model.n_components", "sinks.what=events", "a.b.c=3", "=", ""):
        with pytest.raises(sem.InputError, match=r"section[.]key=value"):
            parse_config(SMALL, "c.toml", [wrong])


def test_secrets_come_from_the_environment_and_are_never_shown():
    environment = {"PLACE": "s3cret", "SIZE": "4096"}
    text = SMALL.replace("x.csv", "${PLACE}/x.csv")
    loaded = parse_config(text, "c.toml", ['source.block_size="${SIZE}"'], environment)
    assert loaded.config.source.path == "s3cret/x.csv"
    assert loaded.config.source.block_size == 4096
    assert "s3cret" not in loaded.text
    assert "${PLACE}" in loaded.text
    message = refused(text, 'source.on_error="${PLACE}"', environment=environment)
    assert "s3cret" not in message
    assert "${PLACE}" in message
    assert "no variable ABSENT; set it" in refused(SMALL.replace("x.csv", "${ABSENT}"))
    assert parse_config(SMALL.replace("x.csv", "$${x}"), "c.toml").config.source.path == "${x}"


def test_a_config_made_from_values_reads_as_the_same():
    config = Config(
        source=FilesSource(path=["a", "b"], passes=3, follow=True),
        model=sem.HiddenMarkov(n_components=5, frozen=("means",)),
        learner=LearnerSection(sem.Stepsize.constant(half_life=100), warmup=9),
        sinks=(SinkSection("events", "csv"), SinkSection("parameters")),
        run=Run(folder="x"),
    )
    assert parse_config(text_of(config), "c.toml").config == config


def test_every_config_names_every_key_with_its_default():
    of_files = {section: kind for section, kind in SECTIONS.items() if section != "kafka"}
    check_keys("file.toml", {**of_files, "[sinks]": SinkSection})
    check_keys("kafka.toml", {"source": KafkaSettings, "kafka": Connection})


def check_keys(name, sections):
    text = (CONFIGS / name).read_text()
    tables = re.split(r"\n(?:# )?\[", text)
    for section, kind in sections.items():
        lines = "\n".join(table for table in tables if table.startswith(f"{section}]")).splitlines()
        for field in msgspec.structs.fields(kind):
            shown = [line for line in lines if line.removeprefix("# ").startswith(f"{field.name} = ")]
            assert shown, f"{section}.{field.name}"
            has_default = field.default not in (None, msgspec.NODEFAULT, ())
            has_default = has_default and field.default_factory is msgspec.NODEFAULT
            if shown[0].startswith("# ") and has_default:
                default = getattr(field.default, "spelling", field.default)
                assert tomllib.loads(shown[0][2:])[field.name] == default, shown[0]
    loaded = load_config(CONFIGS / name, environment={})
    assert loaded.text == text


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_the_schema_takes_what_the_code_takes(path):
    schema = json.loads((CONFIGS / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(path.read_text()), schema)
    wrong = tomllib.loads(path.read_text())
    wrong["model"]["n_componentz"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_the_schema_in_the_repository_is_the_one_the_code_makes():
    made = config_schema()
    kept = (CONFIGS / "schema.json").read_text()
    difference = "\n".join(difflib.unified_diff(kept.splitlines(), made.splitlines(), lineterm=""))
    assert made == kept, f"run: stream-em check --schema > configs/schema.json\n{difference}"


def test_checking_a_config_imports_no_compiler(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    (tmp_path / "c.toml").write_text(SMALL.replace("x.csv", str(tmp_path / "data.csv")))
    code = (
        "import sys\nfrom stream_em import cli\n"
        f"try: cli.main(['check', {str(tmp_path / 'c.toml')!r}])\n"
        "finally: assert not {'numba', 'scipy'} & set(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok: gaussian-mixture of 2 from a, b" in done.stdout


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["${X}", "files", "full"]),
)
KEYS = sorted({field.name for kind in [*SECTIONS.values(), SinkSection] for field in msgspec.structs.fields(kind)})
TABLES = st.dictionaries(
    st.sampled_from([*KEYS, "type", "x"]),
    st.one_of(SCALARS.filter(lambda value: value is not None), st.lists(st.text(max_size=3), max_size=2)),
    max_size=4,
)


@st.composite
def raw_configs(draw):
    raw = tomllib.loads(SMALL)
    for name in draw(st.lists(st.sampled_from([*SECTIONS, "sinks", "x"]), max_size=3)):
        raw[name] = draw(st.one_of(TABLES, st.lists(TABLES, max_size=2), st.integers()))
    return raw


def survives(text):
    said = ""
    try:
        loaded = parse_config(text, "c.toml", environment={"X": "s3cret"})
    except sem.InputError as error:
        said = str(error)
    else:
        assert isinstance(loaded.config, Config)
    assert "\n" not in said
    assert "s3cret" not in said


def fuzz_structure(raw):
    try:
        text = tomlkit.dumps(raw)
    except ValueError:
        return
    survives(text)


@given(raw_configs())
@settings(max_examples=200, deadline=None)
def test_fuzzed_structures_are_read_or_refused(raw):
    fuzz_structure(raw)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_fuzzed_texts_are_read_or_refused(text):
    survives(text)


@pytest.mark.slow
@given(raw_configs(), st.integers(0, 400), st.text(max_size=4))
@settings(max_examples=10_000, deadline=None)
def test_ten_thousand_fuzzed_configs_are_read_or_refused(raw, place, inserted):
    fuzz_structure(raw)
    text = (CONFIGS / "file.toml").read_text()
    survives(text[:place] + inserted + text[place:])


def test_a_run_can_start_from_the_parameters_of_a_model(tmp_path):
    learner = sem.Learner(sem.GaussianMixture(n_components=2), starts=1)
    learner.learn(np.random.default_rng(0).normal([[0.0], [5.0]], 1.0, (2, 300)).reshape(-1, 1))
    learner.start()
    learner.save(tmp_path / "m.safetensors")
    config = parse_config(f'{SMALL}\n[learner]\nparams = "{tmp_path}/m.safetensors"', "c.toml").config
    begun = new_learner(config)
    assert begun.started
    assert begun.count == 0
    np.testing.assert_allclose(begun.params.means, learner.params.means, rtol=1e-12)
    other = parse_config(f'{SMALL}\nn_components = 3\n[learner]\nparams = "{tmp_path}/m.safetensors"', "c.toml").config
    with pytest.raises(sem.InputError, match=r"learner\.params: .*m\.safetensors"):
        new_learner(other)


def test_a_run_goes_on_without_the_model_that_it_started_from(run, tmp_path):
    X = np.random.default_rng(0).normal(size=(900, 1))
    np.savetxt(tmp_path / "a.csv", X, header="a", comments="")
    model = tmp_path / "m.safetensors"
    learner = sem.Learner(sem.GaussianMixture(), starts=1, warmup=50)
    learner.learn(X[:50])
    learner.save(model)
    config = tmp_path / "c.toml"
    text = SMALL.replace("x.csv", f"{tmp_path}/a.csv")
    config.write_text(f'{text}[learner]\nparams = "{model}"\n[run]\nfolder = "{tmp_path}/run"\n')
    assert run("run", config, "--max-records", 500)[0] == 0
    model.unlink()
    code, _, err = run("run", config)
    assert code == 0, err
