"""The page of a run: whatever the run folder holds, it is whole, needs nothing from elsewhere, and has its pictures."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from models import CASES

pytest.importorskip("matplotlib", reason="the report needs matplotlib; pip install 'stream_em[report]'")

import stream_em as sem
from stream_em.learning.store import Progress, SnapshotStore
from stream_em.report import components, facts, history, page, pictures, style
from stream_em.runs.journal import Journal

BY_NAME = {case.name: case for case in CASES}
FIELDS = ("temperature", '<b>"p"</b> & $x^2$', "vibration")
VOID = {"meta", "br", "link", "img", "hr", "input"}
NAMESPACES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
LARGEST_PAGE = 2_000_000
NO_MEANS = '{"weights": [0.5, 0.5], "means": [[null, null], [null, null]]}'


def params_text(learner):
    params = learner.params._asdict()
    return msgspec.json.encode({name: value.tolist() for name, value in params.items() if value.ndim <= 2}).decode()


def save(folder, learner, recent, records=None, rejected=0):
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    records = int(learner.count) if records is None else records
    return SnapshotStore(folder / "snapshots").write(learner, Progress(records, rejected), recent)


def make_run(folder, learner, X, n_rows=20, events=(), outcome="end"):
    """Learn X in blocks as a run does: rows of the journal, one snapshot at the end."""
    folder.mkdir(parents=True)
    journal = Journal(folder / "journal.db")
    journal.begin(0)
    for block in np.array_split(X, n_rows):
        scores = learner.learn(block)
        if learner.started:
            mean = float(scores.mean()) if not np.isnan(scores).any() else float("nan")
            journal.refreshed(int(learner.count), 2, mean, params_text(learner))
    journal.happened(int(learner.count), events)
    path = save(folder, learner, X[-1000:], len(X), rejected=2)
    journal.saved(int(learner.count), path.relative_to(folder), 0.01)
    if outcome:
        journal.end(outcome)
    journal.close()
    return folder


def started(K, D, model=sem.GaussianMixture, covariance_type="diag", scale=1.0):
    """Return a learner that has parameters and has learned nothing."""
    rng = np.random.default_rng(0)
    shape = {"full": (K, D, D), "tied": (D, D), "diag": (K, D), "spherical": (K,)}[covariance_type]
    spread = np.broadcast_to(np.eye(D), shape) if covariance_type in ("full", "tied") else np.ones(shape)
    means, covariances = scale * rng.normal(size=(K, D)) * 5, scale**2 * spread
    if model is sem.GaussianMixture:
        params = model.params_type(np.full(K, 1 / K), means, covariances)
    else:
        params = model.params_type(np.full(K, 1 / K), rng.dirichlet(np.ones(K), K), means, covariances)
    return sem.Learner(model(n_components=K, covariance_type=covariance_type), params=params)


def journalled(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "journal.db")
    journal.begin(0)
    for row in rows:
        journal.refreshed(*row)
    journal.end("end")
    journal.close()


class Outline(HTMLParser):
    """Reads a page and asserts that its tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.attributes, self.texts = [], [], [], {}
        self.feed(text)
        self.close()
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack:
            self.texts.setdefault(self.stack[-1], []).append(data)


def checked(folder, **n_panels):
    """Return the page of a run after asserting what holds for every page; `n_panels` pictures are there of each key."""
    text = page.page_of(facts.read_run(folder))
    assert len(text.encode()) < LARGEST_PAGE
    outline = Outline(text)
    values = [value or "" for _, value in outline.attributes]
    assert not {"script", "link", "img", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert not [name for name, _ in outline.attributes if name.startswith("on") or name in ("src", "srcset")]
    links = [value or "" for name, value in outline.attributes if name in ("href", "xlink:href")]
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not [v for v in values if "://" in v and v not in NAMESPACES]
    assert "@import" not in text
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in links if link.startswith("#")} | set(re.findall(r"url\(#([^)\"]*)\)", text))
    assert targets <= set(ids)
    assert set(re.findall(r"url\((?!#)[^)]*\)", text)) == set()
    assert "#0102" not in text, "a colour that stands for one of the page's was left"
    assert outline.tags.count("figure") == outline.tags.count("figcaption")
    assert all(outline.texts["figcaption"])
    assert len([title for title in outline.texts["title"] if title.strip()]) == outline.tags.count("svg") + 1
    for key, n in n_panels.items():
        assert len(re.findall(f'<title id="picture-{key.replace("_", "-")}-', text)) == n, key
    return text


@pytest.fixture(scope="module")
def mixture_run(tmp_path_factory):
    case = BY_NAME["mixture-diag"]
    X = case.draw(np.random.default_rng(1), 6000)
    X[np.random.default_rng(2).random(X.shape) < 0.05] = np.nan
    X[-1] = np.nan
    learner = sem.Learner(case.model)
    learner.fields = FIELDS
    folder = tmp_path_factory.mktemp("runs") / 'a <run> & "more"'
    return make_run(folder, learner, X, events=[("reseeded", "<script>alert(1)</script>"), ("rejected", "line 3")])


@pytest.fixture(scope="module")
def chain_run(tmp_path_factory):
    case = BY_NAME["chain-diag"]
    X = case.draw(np.random.default_rng(1), 4000)
    return make_run(tmp_path_factory.mktemp("runs") / "chain", sem.Learner(case.model), X)


def test_page_of_a_mixture(mixture_run):
    text = checked(mixture_run, log_likelihood=1, shares=1, means=3, data=3, transitions=0)
    assert "<h1>a &lt;run&gt; &amp; &quot;more&quot;</h1>" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "All events: 1 rejected, 1 reseeded." in text
    assert "lacks one of the two values" in text
    assert "records without any value" in text
    for expected in ("6,000", "gaussian-mixture", "covariance type diag", "refresh every 512", "3: temperature"):
        assert expected in text
    assert "1, the last reached the end of its data" in text
    shown = html.unescape(text)
    assert FIELDS[1] in shown


def test_page_of_a_chain(chain_run):
    text = checked(chain_run, log_likelihood=1, shares=1, means=3, data=3, transitions=1)
    assert "stationary" in text
    assert "to state" in text


def test_the_same_run_gives_the_same_page(mixture_run, monkeypatch):
    import matplotlib as mpl

    once = page.page_of(facts.read_run(mixture_run))
    # Neither the reader's own matplotlib settings nor the order of hashes may enter.
    monkeypatch.setitem(mpl.rcParams, "font.size", 31.0)
    monkeypatch.setitem(mpl.rcParams, "svg.hashsalt", "another")
    assert page.page_of(facts.read_run(mixture_run)) == once
    assert mpl.rcParams["font.size"] == 31.0


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("model", [sem.GaussianMixture, sem.HiddenMarkov])
def test_ellipses_follow_the_covariance_type(covariance_type, model):
    learner = started(3, 4, model, covariance_type)
    found = components.components_of(learner)
    pair = found.pair_covariances(1, 3)
    assert pair.shape == (3, 2, 2)
    np.testing.assert_allclose(pair, np.broadcast_to(np.eye(2), (3, 2, 2)))
    np.testing.assert_allclose(found.variances(), np.ones((3, 4)))


def test_covariances_of_a_pair_are_those_of_its_fields():
    full = np.random.default_rng(0).normal(size=(2, 3, 3))
    full = full @ full.swapaxes(1, 2)
    found = components.Components(np.full(2, 0.5), np.zeros((2, 3)), full, "full")
    np.testing.assert_allclose(found.pair_covariances(2, 0), full[:, [2, 0]][:, :, [2, 0]])


def test_telling_fields_are_those_whose_means_differ():
    means = np.zeros((2, 9))
    means[1, [2, 5]], means[1, 7] = 3.0, 100.0
    variances = np.ones((2, 9))
    variances[:, 7] = 1e8
    found = components.Components(np.full(2, 0.5), means, variances, "diag")
    assert found.telling_fields(2) == [2, 5]
    assert found.telling_fields(9) == list(range(9))


@pytest.mark.parametrize(
    ("model", "K", "D"),
    [
        (sem.GaussianMixture, 1, 1),
        (sem.GaussianMixture, 50, 2),
        (sem.GaussianMixture, 50, 64),
        (sem.HiddenMarkov, 1, 2),
        (sem.HiddenMarkov, 50, 1),
    ],
)
def test_any_size(tmp_path, model, K, D):
    learner = started(K, D, model)
    save(tmp_path, learner, 5 * np.random.default_rng(0).normal(size=(1000, D)), 1000)
    small = D < 64
    rows = [(1000 * i, 0, -float(i % 3), params_text(learner) if small else "{}") for i in range(1, 60)]
    journalled(tmp_path, rows)
    n_transitions = int(model is sem.HiddenMarkov)
    n_pairs = 1 if small else 6
    text = checked(tmp_path, shares=small, means=D * small, data=n_pairs, transitions=n_transitions)
    assert ("this large" in text) != small
    assert ("4 of 64 fields" in text) != small
    assert ("the 12 greatest shares" in text) == (K == 50)


def test_more_components_than_can_be_drawn(tmp_path):
    save(tmp_path, started(60, 2), np.zeros((10, 2)), 10)
    assert "Only the 50 greatest of 60 are drawn" in checked(tmp_path, data=1)


@pytest.mark.parametrize("scale", [1e60, 1e-60])
def test_numbers_of_any_magnitude(tmp_path, scale):
    learner = started(3, 2, scale=scale)
    save(tmp_path, learner, scale * 5 * np.random.default_rng(0).normal(size=(100, 2)), 100)
    journalled(tmp_path, [(i, 0, scale * i, params_text(learner)) for i in range(10)])
    assert f"1e{round(np.log10(scale))}" in checked(tmp_path, means=2, data=1, log_likelihood=1)


def test_all_values_alike(tmp_path):
    learner = started(2, 2, scale=1e-12)
    save(tmp_path, learner, np.full((100, 2), 1e9), 100)
    journalled(tmp_path, [(5, 0, -1.0, params_text(learner))] * 3)
    checked(tmp_path, means=2, data=1, log_likelihood=1, shares=1)


def test_warm_up(tmp_path):
    learner = sem.Learner(BY_NAME["mixture-diag"].model)
    X = np.random.default_rng(0).normal(size=(50, 5))
    text = checked(make_run(tmp_path / "run", learner, X), data=6, shares=0, means=0, log_likelihood=0)
    assert "the first 4 of 5 fields" in text
    assert "warm-up that chooses the first parameters goes on" in text
    assert "there is no model of them yet" in text


def test_before_the_first_snapshot(tmp_path):
    journalled(tmp_path, [])
    text = checked(tmp_path, data=0)
    assert "There is no snapshot yet" in text
    (tmp_path / "journal.db").unlink()
    (tmp_path / "config.toml").write_text("")
    assert "There is no snapshot yet" in checked(tmp_path)


def test_no_journal(tmp_path):
    learner = started(2, 2)
    learner.events.append(sem.Event(7.0, "reseeded", "component 1"))
    save(tmp_path, learner, np.empty((0, 2)), 7)
    text = checked(tmp_path, data=1, log_likelihood=0)
    assert "no journal" in text
    assert "All events: 1 reseeded." in text
    assert "holds no records" in text


@pytest.mark.parametrize("n_learned", [0, 600])
def test_snapshot_without_recent_records(tmp_path, n_learned):
    learner = sem.Learner(BY_NAME["mixture-diag"].model)
    if n_learned:
        learner.learn(np.random.default_rng(0).normal(size=(n_learned, 3)))
    (tmp_path / "snapshots").mkdir()
    learner.save(tmp_path / "snapshots" / "000000000600.safetensors")
    text = checked(tmp_path, data=3 * bool(n_learned))
    assert ("holds no records" in text) == bool(n_learned)


def test_damaged_journal(tmp_path):
    save(tmp_path, started(2, 2), np.zeros((5, 2)), 5)
    (tmp_path / "journal.db").write_bytes(b"no database" * 1000)
    assert "The history is missing" in checked(tmp_path, data=1, log_likelihood=0)


def test_no_refreshes_and_no_log_likelihood(tmp_path):
    learner = started(2, 2)
    save(tmp_path, learner, np.zeros((5, 2)), 5)
    journalled(tmp_path, [])
    assert "no log-likelihood yet" in checked(tmp_path, log_likelihood=0, shares=0, data=1)
    journalled(tmp_path, [(5, 0, float("nan"), params_text(learner))])
    assert "no log-likelihood yet" in checked(tmp_path, log_likelihood=0, shares=1, means=2, data=1)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"weights": "a"}', '{"weights": [null, 1], "means": [[1]]}', "null", NO_MEANS]
)
def test_parameters_that_make_no_sense(tmp_path, text):
    save(tmp_path, started(2, 2), np.zeros((5, 2)), 5)
    journalled(tmp_path, [(5, 0, -1.0, text)] * 2)
    checked(tmp_path, means=0, data=1)


def test_long_journal_is_thinned(tmp_path):
    learner = started(50, 6)
    save(tmp_path, learner, np.zeros((5, 6)), 5)
    text = params_text(learner)
    journal = Journal(tmp_path / "journal.db")
    journal.begin(0)
    for i in range(20_000):
        journal.refreshed(1000 * i, 0, -5.0 + i % 7, text)
    journal.happened(10, [(f"kind-{i % 9}", "x" * 5000) for i in range(3000)])
    journal.close()
    page_text = checked(tmp_path, log_likelihood=1, shares=1, means=6)
    assert "The band spans" in page_text
    assert "other events" in page_text
    assert "The last 50, newest first" in page_text


def test_damaged_newest_snapshot(tmp_path, mixture_run):
    folder = shutil.copytree(mixture_run, tmp_path / "run")
    whole = SnapshotStore(folder / "snapshots").paths()[0]
    damaged = whole.with_name("000000007000.safetensors")
    damaged.write_bytes(whole.read_bytes()[:-100])
    text = checked(folder, data=3)
    assert "A newer snapshot cannot be used" in text
    assert "damaged, or not a model file" in text
    assert ">cannot be used<" in text
    whole.unlink()
    with pytest.raises(sem.InputError, match="no snapshot can be used"):
        facts.read_run(folder)


def test_names_that_cannot_be_shown(tmp_path):
    learner = started(2, 2)
    learner.fields = ("a\x00\x1b[31m\u202eb", "温度" * 1000)
    save(tmp_path / "run", learner, np.zeros((5, 2)), 5)
    journalled(tmp_path / "run", [(5, 0, -1.0, params_text(learner))])
    text = checked(tmp_path / "run", means=2, data=1)
    assert not set("\x00\x1b\u202e") & set(text)


def test_sessions_and_how_they_ended(tmp_path):
    learner = started(2, 2)
    save(tmp_path, learner, np.zeros((5, 2)), 300)
    for begin, outcome in ((0, "stopped"), (100, None), (200, None)):
        journal = Journal(tmp_path / "journal.db")
        journal.begin(begin)
        journal.refreshed(begin + 90, 0, -1.0, params_text(learner))
        if outcome:
            journal.end(outcome)
        journal.close()
    sessions = facts.read_run(tmp_path).sessions
    assert [session.outcome for session in sessions] == ["stopped", "was killed", "goes on, or was killed"]
    assert [session.records for session in sessions] == [100, 100, 100]
    assert "Dashed lines: a later session began" in checked(tmp_path, log_likelihood=1)


def test_robust_limits_say_what_they_leave_out(tmp_path):
    save(tmp_path, started(2, 2), np.concatenate([np.random.default_rng(0).normal(size=(999, 2)), [[1e60, 0.0]]]), 1000)
    journalled(tmp_path, [(i, 0, -1e9 if i == 0 else -5.0 + i % 2, "{}") for i in range(200)])
    text = checked(tmp_path, data=1, log_likelihood=1)
    assert "Not in the picture: 1 far above or below" in text
    assert "far records lie outside of the picture" in text


def test_a_component_keeps_its_colour():
    colours = [style.colour(k) for k in range(24)]
    assert len(set(colours)) == 24
    assert colours == [style.colour(k) for k in range(24)]


def test_badges_lie_apart():
    places = history._apart([0.5, 0.5, 0.51, 0.0, 1.0])
    assert np.diff(np.sort(places)).min() > 0.09
    assert min(places) >= 0
    assert max(places) <= 1


@pytest.mark.parametrize("missing", ["nowhere", "file", "empty"])
def test_what_is_no_run(tmp_path, missing):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(sem.InputError, match="run folder"):
        facts.read_run(tmp_path / missing)


def test_without_matplotlib(mixture_run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(sem.InputError, match=r"pip install 'stream_em\[report\]'"):
        pictures.pictures_of(facts.read_run(mixture_run))


def test_a_page_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    page.write_page(path, "old")
    page.write_page(path, "new")
    assert path.read_text() == "new"

    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", refuse)
    with pytest.raises(sem.OutsideError, match="No space left"):
        page.write_page(path, "newer")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path):
    for name in ("journal.db", "x.safetensors", "-"):
        with pytest.raises(sem.InputError, match=r"ends in \.html"):
            page.write_page(tmp_path / name, "")
    with pytest.raises(sem.OutsideError, match="cannot be written"):
        page.write_page(tmp_path / "nowhere" / "a.html", "")


def test_command(mixture_run, tmp_path, capsys):
    from stream_em.cli.report import report

    out = tmp_path / "page.html"
    report(mixture_run, out)
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text("utf-8") == page.page_of(facts.read_run(mixture_run))


PROBE = """
<script>
addEventListener("load", () => {
  const seen = {boxes: [], pixels: [], wide: [], errors: window.problems, fetched: []};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument;
    for (const svg of page.querySelectorAll("svg")) {
      const box = svg.getBoundingClientRect();
      seen.boxes.push([svg.querySelector("title").id, box.width, box.height, box.right - frame.clientWidth]);
      for (const image of svg.querySelectorAll("image")) {
        const size = image.getBoundingClientRect();
        seen.pixels.push([size.width, size.height]);
      }
    }
    seen.wide.push(page.documentElement.scrollWidth - frame.clientWidth);
    seen.fetched.push(...frame.contentWindow.performance.getEntriesByType("resource")
      .map(entry => entry.name).filter(name => !name.startsWith("data:")));
  }
  document.getElementById("probe").textContent = JSON.stringify(seen);
});
</script>
"""


def chromium(folder, *arguments):
    """Run a headless Chromium that can reach no network; return its output and what it had to complain of."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT LOOKED AT IN A BROWSER: there is no Chromium; apt-get install chromium")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--enable-logging=stderr", "--v=0", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--disable-background-networking", f"--user-data-dir={folder / 'profile'}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("kind", ["mixture", "chain"])
def test_in_a_real_browser(kind, tmp_path, request):
    text = page.page_of(facts.read_run(request.getfixturevalue(f"{kind}_run")))
    frames = "".join(
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(text)}"></iframe>'
        for width in (360, 1280)
    )
    problems = "<script>window.problems = []; onerror = message => { problems.push(message); };</script>"
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(f'<!DOCTYPE html><meta charset="utf-8">{problems}<pre id="probe"></pre>{frames}{PROBE}', "utf-8")
    dom, complaints = chromium(tmp_path, "--dump-dom", wrapper.as_uri())
    seen = json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)[1]))
    assert complaints == []
    assert seen["errors"] == []
    assert seen["fetched"] == []
    assert len(seen["boxes"]) == 2 * text.count("<svg")
    for name, width, height, beyond in seen["boxes"]:
        assert width > 150, name
        assert height > 100, name
        assert beyond <= 0, f"{name} does not fit"
    assert seen["pixels"]
    assert all(width > 50 and height > 50 for width, height in seen["pixels"])
    assert max(seen["wide"]) <= 0, "the page must not scroll sideways"


def test_screenshot(mixture_run, tmp_path):
    from matplotlib.image import imread

    path, shot = tmp_path / "report.html", tmp_path / "report.png"
    page.write_page(path, page.page_of(facts.read_run(mixture_run)))
    _, complaints = chromium(tmp_path, "--window-size=1180,1400", f"--screenshot={shot}", path.as_uri())
    assert complaints == []
    pixels = imread(shot)[..., :3]
    colours = {tuple(int(style.colour(k)[i : i + 2], 16) for i in (1, 3, 5)) for k in range(2)}
    drawn = set(map(tuple, np.unique(np.round(255 * pixels).astype(int).reshape(-1, 3), axis=0).tolist()))
    assert colours <= drawn
