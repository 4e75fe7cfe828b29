"""What operators deploy: each file linted by a tool of its kind, and in agreement with the code and the others."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import xml.etree.ElementTree
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import jsonschema
import kubernetes_validate
import pytest
import yaml

from stream_em import __version__
from stream_em.config import Serve
from stream_em.configfile import parse_config
from stream_em.pipeline.status import Status
from stream_em.service.server import serving
from stream_em.streams.kafka.settings import KafkaSettings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "container" / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
UNIT = DEPLOY / "systemd" / "stream-em@.service"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
KUBERNETES_VERSIONS = ("1.30", "1.37")
YAML_STYLE = """{extends: default, rules: {document-start: disable, line-length: {max: 120},
braces: {max-spaces-inside: 0}, comments: {min-spaces-from-content: 1}}}"""
FALSE_FINDINGS = ("Security.Delegate", "Security.UMaskOW", "SuccessExitStatus=130")
"""systemdlint asks every service to manage control groups, reads umasks as modes, and knows exit codes by name only."""


def tool(name, *arguments):
    """Run a tool that is installed beside this Python; return its exit code and all that it said."""
    command = [Path(sys.executable).with_name(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def lint_dockerfile(path):
    return tool("hadolint", "--failure-threshold", "style", path)


def lint_compose(path):
    return tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


def lint_yaml(path):
    return tool("yamllint", "--strict", "-d", YAML_STYLE, path)


def lint_unit(path):
    _, said = tool("systemdlint", "--norootfs", path)
    found = [line for line in said.splitlines() if not any(finding in line for finding in FALSE_FINDINGS)]
    if shutil.which("systemd-analyze"):
        verify = ["systemd-analyze", "verify", "--man=no", path]
        found += subprocess.run(verify, capture_output=True, text=True, check=False).stderr.splitlines()
    return len(found), "\n".join(found)


def lint_kubernetes(path):
    try:
        for version in KUBERNETES_VERSIONS:
            kubernetes_validate.validate(yaml.safe_load(path.read_text()), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return 1, str(error)
    return 0, ""


def on_this_machine(unit):
    """Return a unit's text with a program that is there."""
    return unit.read_text().replace("/opt/stream-em/bin/stream-em", sys.executable)


@pytest.mark.parametrize(
    ("lint", "path", "right", "wrong"),
    [
        (lint_dockerfile, DOCKERFILE, "-slim-bookworm\nARG", ":latest\nARG"),
        (lint_compose, COMPOSE, "stop_grace_period:", "stop_grace:"),
        (lint_yaml, COMPOSE, "services:\n", "services:\nname: x\n"),
        (lint_unit, UNIT, "RestartSec=", "RestartSeconds="),
        *(
            (lint_kubernetes, path, "metadata:", "meta:")
            for path in KUBERNETES
            if path.name not in ("kustomization.yaml", "statefulset.yaml")
        ),
        (lint_kubernetes, DEPLOY / "kubernetes" / "statefulset.yaml", "readOnlyRootFilesystem", "readOnlyRoot"),
        *((lint_yaml, path, ": ", ":  ") for path in KUBERNETES),
    ],
    ids=lambda value: value.name if isinstance(value, Path) else getattr(value, "__name__", ""),
)
def test_each_file_passes_its_linter_and_a_wrong_one_does_not(lint, path, right, wrong, tmp_path):
    text = on_this_machine(path)
    assert right in text
    (tmp_path / path.name).write_text(text)
    assert lint(tmp_path / path.name) == (0, "") or lint is lint_compose
    if lint is lint_compose:
        assert lint(path)[0] == 0
    (tmp_path / path.name).write_text(text.replace(right, wrong))
    assert lint(tmp_path / path.name)[0] != 0


def instructions():
    """Return the instructions of each stage of the Dockerfile, as pairs of name and argument."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    parts = [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line]
    begins = [i for i, (name, _) in enumerate(parts) if name == "FROM"]
    return [
        [(name, argument) for name, argument in parts[begin:end]]
        for begin, end in zip(begins, [*begins[1:], None], strict=True)
    ]


def environment_of(stage):
    pairs = [pair for name, argument in stage if name == "ENV" for pair in shlex.split(argument)]
    return dict(pair.split("=", 1) for pair in pairs)


def user():
    return dict(instructions()[-1])["USER"].split(":")


def test_the_image_runs_as_a_numbered_user_and_ends_kindly():
    last = dict(instructions()[-1])
    assert [int(number) > 0 for number in user()] == [True, True]
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["ENTRYPOINT"]) == ["stream-em"]
    assert int(last["EXPOSE"]) == Serve().port
    assert f"--owner={user()[0]}" in last["RUN"]


def test_the_image_holds_kernels_that_are_found_again():
    build, last = instructions()
    assert "warm" in [argument for name, argument in build if name == "RUN"][-1]
    for name in ("STREAM_EM_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"):
        assert environment_of(build)[name] == environment_of(last)[name]
    copied = dict(last)["COPY"].split()[-1]
    assert PurePosixPath(environment_of(last)["STREAM_EM_CACHE_DIR"]).is_relative_to(copied)


def test_the_image_is_made_of_this_checkout_and_its_constraints():
    build = instructions()[0]
    installs = [argument for name, argument in build if name == "RUN" and "pip install" in argument]
    assert installs
    assert all("--constraint constraints.txt" in command for command in installs)
    extras = set(re.search(r"\.\[(.*?)\]", " ".join(installs))[1].split(","))
    assert extras == {"kafka", "confluent", "report"}
    assert extras <= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {each.removeprefix("./") for name, argument in build if name == "COPY" for each in argument.split()[:-1]}
    assert "*" in ignored
    assert copied == let_in, "what is copied is what the builder is sent"
    assert all((ROOT / each).exists() for each in copied)


def compose_services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def kubernetes(kind):
    return next(each for path in KUBERNETES if (each := yaml.safe_load(path.read_text()))["kind"] == kind)


def pod():
    return kubernetes("StatefulSet")["spec"]["template"]["spec"]


def container():
    (only,) = pod()["containers"]
    return only


def configs():
    """Return the texts of all configs that are shipped for Kafka."""
    return {
        "kafka.toml": (ROOT / "configs" / "kafka.toml").read_text(),
        "learner.toml": (DEPLOY / "learner.toml").read_text(),
        "configmap.yaml": kubernetes("ConfigMap")["data"]["learner.toml"],
    }


def parsed(name):
    return parse_config(configs()[name], name, environment={"KAFKA_PASSWORD": "s3cret"})


@pytest.mark.parametrize("name", configs())
def test_each_config_is_accepted_and_takes_its_password_from_the_environment(name):
    loaded = parsed(name)
    assert isinstance(loaded.config.source, KafkaSettings)
    assert loaded.config.source.fields, "without names it would wait for a message before it answers any probe"
    assert loaded.secrets == ({} if name == "kafka.toml" else {"KAFKA_PASSWORD": "s3cret"})
    jsonschema.validate(tomllib.loads(configs()[name]), json.loads((ROOT / "configs" / "schema.json").read_text()))


def test_the_example_is_right_with_all_its_keys():
    text = re.sub(r"^# (?=\w+ = )", "", configs()["kafka.toml"], flags=re.MULTILINE)
    for old, new in ((r"topics = .*", ""), ('format = "json"', 'format = "avro"'), ('"PLAINTEXT"', '"SASL_SSL"')):
        text = re.sub(old, new, text, count=1)
    secrets = {"KAFKA_PASSWORD": "a", "KEY_PASSWORD": "b", "REGISTRY_PASSWORD": "c"}
    assert parse_config(text, "kafka.toml", environment=secrets).secrets == secrets


def test_compose_and_kubernetes_ask_what_the_server_answers():
    learner = compose_services()["learner"]
    config, port = parsed("learner.toml").config, Serve().port
    (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", " ".join(learner["healthcheck"]["test"]))
    assert url == (str(port), "/readyz")
    assert learner["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert (config.serve.host, config.serve.port) == ("0.0.0.0", port)
    paths = [url[1]]
    serve = parsed("configmap.yaml").config.serve
    assert container()["ports"] == [{"name": "metrics", "containerPort": serve.port}]
    assert serve.host == "0.0.0.0", "probes come from outside the pod"
    (served,) = kubernetes("Service")["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (serve.port, "metrics")
    notes = kubernetes("StatefulSet")["spec"]["template"]["metadata"]["annotations"]
    assert notes["prometheus.io/port"] == str(serve.port)
    paths.append(notes["prometheus.io/path"])
    for name, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        assert container()[f"{name}Probe"]["httpGet"] == {"path": path, "port": "metrics"}
        paths.append(path)
    with serving(Status(running=True), Serve(port=0)) as address:
        for path in paths:
            assert urllib.request.urlopen(address + path, timeout=5).status == 200
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "/health", timeout=5)


def test_the_pod_may_do_little_and_says_how_much_it_needs():
    security = pod()["securityContext"]
    assert security["runAsNonRoot"] is True
    assert [security["runAsUser"], security["runAsGroup"]] == [int(number) for number in user()]
    assert security["fsGroup"] == security["runAsGroup"], "or the volume could not be written"
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for which in ("requests", "limits"):
        assert container()["resources"][which].keys() == {"cpu", "memory"}
    assert pod()["terminationGracePeriodSeconds"] >= 60


def test_the_pod_finds_what_it_names():
    stateful = kubernetes("StatefulSet")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    assert stateful["selector"]["matchLabels"] == labels == kubernetes("Service")["spec"]["selector"]
    assert stateful["serviceName"] == kubernetes("Service")["metadata"]["name"]
    assert kubernetes("Service")["spec"]["clusterIP"] == "None"
    assert stateful["replicas"] == 1
    mounts = {mount["name"]: PurePosixPath(mount["mountPath"]) for mount in container()["volumeMounts"]}
    claims = [claim["metadata"]["name"] for claim in stateful["volumeClaimTemplates"]]
    assert mounts.keys() == {volume["name"] for volume in pod()["volumes"]} | set(claims)
    folder = PurePosixPath(parsed("configmap.yaml").config.run.folder)
    assert mounts[claims[0]] in folder.parents, "a mount cannot be renamed by --fresh"
    sources = {volume["name"]: volume for volume in pod()["volumes"]}
    assert sources["config"]["configMap"]["name"] == kubernetes("ConfigMap")["metadata"]["name"]
    command, path = container()["args"]
    assert command == "run"
    assert PurePosixPath(path).relative_to(mounts["config"]).name in kubernetes("ConfigMap")["data"]
    wanted = [each["valueFrom"]["secretKeyRef"] for each in container()["env"] if "valueFrom" in each]
    assert [each["key"] for each in wanted] == list(parsed("configmap.yaml").secrets)
    assert all(each["key"] in kubernetes("Secret")["stringData"] for each in wanted)
    assert all(each["name"] == kubernetes("Secret")["metadata"]["name"] for each in wanted)
    listed = {"kustomization.yaml", *kubernetes("Kustomization")["resources"]}
    assert listed == {path.name for path in KUBERNETES}


def test_compose_is_closed_to_other_machines_and_survives():
    services = compose_services()
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
    learner = services["learner"]
    assert learner["read_only"] is True
    assert learner["tmpfs"][0].startswith("/tmp:")
    assert learner["restart"] == services["broker"]["restart"] == "unless-stopped"
    assert learner["stop_grace_period"] == "60s"
    volume, _, place = learner["volumes"][0].partition(":")
    assert volume in yaml.safe_load(COMPOSE.read_text())["volumes"]
    assert PurePosixPath(place) in PurePosixPath(parsed("learner.toml").config.run.folder).parents
    (config,) = learner["configs"]
    assert learner["command"] == ["run", config["target"]]
    assert (DEPLOY / yaml.safe_load(COMPOSE.read_text())["configs"][config["source"]]["file"]).exists()
    assert (DEPLOY / learner["build"]["context"] / learner["build"]["dockerfile"]).resolve() == DOCKERFILE
    assert learner["environment"].keys() == parsed("learner.toml").secrets.keys()


def test_versions_are_those_of_the_code_and_of_the_broker_that_is_tested():
    pom = xml.etree.ElementTree.parse(DEPLOY / "kafka" / "pom.xml")
    kafka = pom.findtext(".//{*}kafka.version")
    images = {name: service["image"] for name, service in compose_services().items()}
    ours = f"stream-em:{__version__}"
    assert images == {"broker": f"apache/kafka:{kafka}", "topic": f"apache/kafka:{kafka}", "learner": ours}
    assert container()["image"] == ours
    (image,) = kubernetes("Kustomization")["images"]
    assert f"{image['name']}:{image['newTag']}" == ours
    for path in (DOCKERFILE, DEPLOY / "README.md"):
        assert set(re.findall(r"stream-em:([\d.]+\d)", path.read_text())) == {__version__}


def unit():
    settings = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


def test_the_unit_starts_again_only_where_that_may_help():
    settings = unit()
    assert settings["ExecStart"] == ["/opt/stream-em/bin/stream-em run /etc/stream-em/%i.toml"]
    assert settings["Restart"] == ["on-failure"]
    assert settings["RestartPreventExitStatus"] == ["2"]
    assert settings["KillSignal"] == ["SIGTERM"]
    assert int(settings["TimeoutStopSec"][0]) >= 60
    assert settings["EnvironmentFile"] == ["-/etc/stream-em/%i.env"]
    assert settings["WorkingDirectory"] == [f"%S/{settings['StateDirectory'][0]}"]
    assert f"STREAM_EM_CACHE_DIR=%C/{settings['CacheDirectory'][0]}" in settings["Environment"][0]


def test_the_unit_may_do_little():
    settings = unit()
    assert settings["DynamicUser"] == settings["NoNewPrivileges"] == settings["PrivateTmp"] == ["yes"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert settings["ProtectSystem"] == ["strict"]
    assert "MemoryDenyWriteExecute" not in settings, "kernels could not be compiled"
    if shutil.which("systemd-analyze"):
        judge = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", UNIT]
        judged = subprocess.run(judge, capture_output=True, text=True, check=False)
        assert judged.returncode == 0, judged.stdout[-200:]


FILES = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
FILES += [ROOT / "configs" / "kafka.toml", ROOT / ".dockerignore"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_secret_is_written_down(path):
    text = path.read_text()
    for value in re.findall(r"(?i)\w+_(?:password|token|jaas_config|learner)[\"']?\s*[=:]\s*(\S+)", text):
        assert value.startswith(("${", '"${', "$(", "REPLACE-ME", "...", "…", "?", "&users", "*users")), value
    assert "PRIVATE KEY" not in text


def test_placeholders_cannot_be_taken_for_secrets():
    assert set(kubernetes("Secret")["stringData"].values()) == {"REPLACE-ME"}
    assert "data" not in kubernetes("Secret")
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert any(fnmatch("deploy/.env", pattern) or pattern == ".env" for pattern in ignored)


def test_the_page_for_operators_names_files_that_are_there():
    links = re.findall(r"\]\(([^)#]+)\)", (DEPLOY / "README.md").read_text())
    assert links
    assert [link for link in links if not (DEPLOY / link).exists()] == []
