"""What is offered for Kubernetes and ECS: valid by their own schemas, and in agreement with the relay."""

from __future__ import annotations

import copy
import json
import subprocess
from typing import Any

import botocore.session
import botocore.validate
import jsonschema
import kubernetes_validate
import yaml
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay import __version__, cli
from fipsrelay.config.load import load_text
from packages.build import CACHE, HERE
from packages.tests.container import image
from packages.tests.tools import kubectl

FOLDER = HERE / "orchestrators"
KUBERNETES = "1.29"  # the first with sidecars that are init containers
IMAGE = f"REGISTRY/fipsrelay:{__version__}"


def strict(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these properties, and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


TEXT, NUMBER, SWITCH = ({"type": kind} for kind in ("string", "integer", "boolean"))
RESOURCES = strict(**{kind: strict(cpu=TEXT, memory=TEXT) for kind in ("requests", "limits")})
# What Datadog's chart reads of `fips` (templates/_container-fips-proxy.yaml and _helpers.tpl of DataDog/helm-charts);
# its own values.schema.json says nothing of it.
CHART = strict(
    enabled=SWITCH,
    image=strict(repository=TEXT, name=TEXT, tag=TEXT, digest=TEXT, pullPolicy=TEXT),
    port=NUMBER,
    portRange=NUMBER,
    use_https=SWITCH,
    local_address=TEXT,
    resources=RESOURCES,
    customFipsConfig=TEXT,
)
# FIPSConfig of the Operator's API (api/datadoghq/v2alpha1/datadogagent_types.go of DataDog/datadog-operator).
OPERATOR = strict(
    enabled=SWITCH,
    image=strict(name=TEXT, tag=TEXT, pullPolicy={"enum": ["Always", "Never", "IfNotPresent"]}),
    localAddress=TEXT,
    port=NUMBER,
    portRange=NUMBER,
    resources=RESOURCES,
    useHTTPS=SWITCH,
    customFIPSConfig=strict(configData=TEXT, configMap={"type": "object"}),
)


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


def agent(start: int) -> dict[str, str]:
    """What an Agent's environment has to say."""
    names = ("ENABLED", "HTTPS", "PORT_RANGE_START", "LOCAL_ADDRESS")
    return {
        f"DD_FIPS_{name}": value for name, value in zip(names, ("true", "false", str(start), "127.0.0.1"), strict=True)
    }


def environ(container: dict[str, Any]) -> dict[str, str]:
    return {
        each["name"]: each["value"]
        for each in container["env" if "env" in container else "environment"]
        if "value" in each
    }


class Settings(SynchronousTestCase):
    """The relay's own, which others are compared with."""

    def setUp(self) -> None:
        self.config = load_text("preset: datadog", "preset")
        self.start = self.config.listen.port_range_start
        self.range = max(intake.port for intake in self.config.intakes.values()) - self.start + 1
        said = image()
        self.user, self.group = said.user, said.group

    def assert_configuration(self, text: str) -> None:
        """The relay takes it, and does with it what it does by itself, but for the log."""
        found = load_text(text, "text")
        self.assertEqual((found.intakes, found.site), (self.config.intakes, self.config.site))
        self.assertEqual(found.log.format, "json")

    def assert_command(self, words: list[str]) -> None:
        """The relay's own command line takes it."""
        program, *rest = words
        self.assertEqual(program, "/opt/fipsrelay/bin/fipsrelay")
        self.assertEqual(cli.parser().parse_args(rest).command, "status")


class HelmTests(Settings):
    def test_values(self) -> None:
        fips = read("helm-values.yaml")["fips"]
        jsonschema.validate(fips, CHART)
        self.assertRaises(jsonschema.ValidationError, jsonschema.validate, {**fips, "portrange": 16}, CHART)
        self.assertEqual((fips["enabled"], fips["use_https"], fips["local_address"]), (True, False, "127.0.0.1"))
        self.assertEqual((fips["port"], fips["portRange"]), (self.start, self.range))
        self.assertEqual(f"{fips['image']['repository']}:{fips['image']['tag']}", IMAGE)
        self.assert_configuration(fips["customFipsConfig"])
        self.assertNotIn("{{", fips["customFipsConfig"])

    def test_site(self) -> None:
        self.assertEqual(read("helm-values.yaml")["datadog"]["site"], self.config.site)


class OperatorTests(Settings):
    def test_agent(self) -> None:
        document = read("datadog-agent.yaml")
        self.assertEqual((document["apiVersion"], document["kind"]), ("datadoghq.com/v2alpha1", "DatadogAgent"))
        fips = document["spec"]["global"]["fips"]
        jsonschema.validate(fips, OPERATOR)
        self.assertRaises(jsonschema.ValidationError, jsonschema.validate, {**fips, "use_https": False}, OPERATOR)
        self.assertEqual((fips["enabled"], fips["useHTTPS"], fips["localAddress"]), (True, False, "127.0.0.1"))
        self.assertEqual((fips["port"], fips["portRange"], fips["image"]["name"]), (self.start, self.range, IMAGE))
        self.assertEqual(document["spec"]["global"]["site"], self.config.site)
        self.assert_configuration(fips["customFIPSConfig"]["configData"])


class KustomizeTests(Settings):
    def setUp(self) -> None:
        super().setUp()
        done = subprocess.run(
            [str(kubectl(CACHE)), "kustomize", str(FOLDER / "kustomize")], capture_output=True, text=True, check=True
        )
        self.documents = list(yaml.safe_load_all(done.stdout))
        found = {document["kind"]: document for document in self.documents}
        self.settings, self.agent = found["ConfigMap"], found["DaemonSet"]
        self.pod = self.agent["spec"]["template"]["spec"]
        (self.relay,) = self.pod["initContainers"]

    def test_valid(self) -> None:
        for document in self.documents:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        broken = copy.deepcopy(self.agent)
        broken["spec"]["template"]["spec"]["initContainers"][0]["livenessprobe"] = {}
        self.assertRaises(
            kubernetes_validate.ValidationError, kubernetes_validate.validate, broken, KUBERNETES, strict=True
        )

    def test_relay(self) -> None:
        """As restricted as can be, and alive by its own command."""
        self.assertEqual((self.relay["image"], self.relay["restartPolicy"]), (IMAGE, "Always"))
        self.assertEqual(
            self.relay["securityContext"],
            {
                "runAsNonRoot": True,
                "runAsUser": self.user,
                "runAsGroup": self.group,
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        )
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            self.assert_command(self.relay[name]["exec"]["command"])
        self.assertGreater(self.pod["terminationGracePeriodSeconds"], 2 * self.config.timeouts.drain)

    def test_configuration(self) -> None:
        """Mounted where the probes look for it."""
        (volume,) = self.pod["volumes"]
        self.assertEqual(volume["configMap"]["name"], self.settings["metadata"]["name"])
        (mount,) = self.relay["volumeMounts"]
        self.assertEqual(mount["name"], volume["name"])
        (name,) = self.settings["data"]
        self.assertEqual(f"{mount['mountPath']}/{name}", self.relay["livenessProbe"]["exec"]["command"][-1])
        self.assert_configuration(self.settings["data"][name])

    def test_agent(self) -> None:
        (container,) = self.pod["containers"]
        self.assertEqual({**environ(container), **agent(self.start)}, environ(container))


class EcsTests(Settings):
    def setUp(self) -> None:
        super().setUp()
        self.task = json.loads((FOLDER / "ecs-task-definition.json").read_text())
        self.relay, self.agent = self.task["containerDefinitions"]

    def problems(self, task: dict[str, Any]) -> str:
        """By the service's own model."""
        model = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
        found = botocore.validate.ParamValidator().validate(task, model.input_shape)
        return str(found.generate_report())

    def test_valid(self) -> None:
        self.assertEqual(self.problems(self.task), "")
        self.assertIn("Unknown parameter", self.problems({**self.task, "Memory": "1"}))

    def test_relay(self) -> None:
        self.assertEqual((self.relay["name"], self.relay["image"]), ("fips-proxy", IMAGE))
        self.assertEqual(self.relay["user"], f"{self.user}:{self.group}")
        self.assertTrue(self.relay["essential"] and self.relay["readonlyRootFilesystem"])
        self.assertEqual(self.relay["linuxParameters"]["capabilities"], {"drop": ["ALL"]})
        kind, *command = self.relay["healthCheck"]["command"]
        self.assertEqual(kind, "CMD")
        self.assert_command(command)
        self.assertGreater(self.relay["stopTimeout"], 2 * self.config.timeouts.drain)

    def test_agent(self) -> None:
        """Which starts when the relay is there."""
        self.assertEqual(self.agent["dependsOn"], [{"containerName": self.relay["name"], "condition": "HEALTHY"}])
        self.assertEqual({**environ(self.agent), **agent(self.start)}, environ(self.agent))
        own = {
            name: value for name, value in agent(self.start).items() if "HTTPS" not in name and "ENABLED" not in name
        }
        self.assertEqual(environ(self.relay), own)
