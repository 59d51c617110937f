"""Tests of ``fipsrelay.config.sections``, through ``load_text``."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from twisted.trial.unittest import SynchronousTestCase

from fipsrelay.config.load import load_text
from fipsrelay.config.model import (
    Certificate,
    Config,
    Egress,
    Fips,
    Intake,
    Limits,
    Listen,
    LocalTls,
    Log,
    Probes,
    Proxy,
    Resolver,
    Retries,
    Route,
    Timeouts,
    Tls,
    Upstream,
)
from fipsrelay.errors import ConfigError

#: A whole file on three lines, to which tests add.
BASE = """\
site: example.com
upstreams: {main: {host: "main.{site}"}, other: {host: other.example.com}}
intakes: {logs: {offset: 1, upstream: main}}
"""


class SectionTests(SynchronousTestCase):
    """Loads texts without a preset."""

    def problems(self, text: str, environ: Mapping[str, str] = {}) -> list[str]:
        """What is wrong with a text."""
        error = self.assertRaises(ConfigError, load_text, text, "f.yaml", environ)
        return [str(problem) for problem in error.problems]

    def problem(self, text: str, environ: Mapping[str, str] = {}) -> str:
        """The only thing that is wrong with a text."""
        [problem] = self.problems(text, environ)
        return problem


class PlainSectionTests(SectionTests):
    """``fips``, ``tls``, ``resolver``, ``probes``, ``timeouts``, ``limits`` and ``log``."""

    def test_defaults(self) -> None:
        config = load_text(BASE, "f.yaml")
        self.assertEqual(config.listen, Listen())
        self.assertEqual(config.fips, Fips())
        self.assertEqual(config.tls, Tls())
        self.assertEqual(config.resolver, Resolver())
        self.assertEqual(config.egress, Egress())
        self.assertEqual(config.probes, Probes())
        self.assertEqual(config.timeouts, Timeouts())
        self.assertEqual(config.limits, Limits())
        self.assertEqual(config.log, Log())

    def test_all_settings(self) -> None:
        config = load_text(
            BASE + "fips: {module: /opt/fips.so, sha256: " + "A1" * 32 + ", unlisted_module: warn, certificates: [\n"
            "{number: 9, name: N, version: 1.0, build_info: 1.0-x, standard: FIPS 140-3, source: S,\n"
            "sunset: 2030-01-31}]}\n"
            "tls: {trust: /etc/bundle.pem, minimum_version: 1.3, profile: cnsa, hybrid_groups: true,\n"
            "crl: /etc/crl.pem, ocsp_stapling: require}\n"
            "resolver: {refresh: 1m, nameservers: [192.0.2.53, 192.0.2.54:5353, '[2001:db8::1]:53']}\n"
            "probes: {enabled: false, interval: 1, fall: 100, rise: 2}\n"
            "limits: {head_size: 32768, header_lines: 64, connections: 10}\n"
            "log: {level: debug, format: journald, socket: /run/log}\n",
            "f.yaml",
        )
        certificate = Certificate("9", "N", "1.0", "1.0-x", "FIPS 140-3", "S", sunset="2030-01-31")
        self.assertEqual(config.fips, Fips("/opt/fips.so", "a1" * 32, "warn", (certificate,)))
        self.assertEqual(config.tls, Tls("/etc/bundle.pem", "1.3", "cnsa", True, "/etc/crl.pem", "require"))
        servers = (("192.0.2.53", 53), ("192.0.2.54", 5353), ("2001:db8::1", 53))
        self.assertEqual(config.resolver, Resolver(60.0, servers))
        self.assertEqual(config.probes, Probes(False, 1.0, 100, 2))
        self.assertEqual(config.limits, Limits(32768, 64, 10))
        self.assertEqual(config.log, Log("debug", "journald", "/run/log"))

    def test_every_timeout(self) -> None:
        for field in attrs.fields(Timeouts):
            config = load_text(f"{BASE}timeouts: {{{field.name}: 1500ms}}\n", "f.yaml")
            self.assertEqual(config.timeouts, attrs.evolve(Timeouts(), **{field.name: 1.5}))

    def test_bounds_of_timeouts(self) -> None:
        config = load_text(BASE + "timeouts: {drain: 0, tunnel: 24h}\n", "f.yaml")
        self.assertEqual((config.timeouts.drain, config.timeouts.tunnel), (0.0, 86400.0))
        problems = self.problems(BASE + "timeouts: {connect: 0, answer: 24h, drain: -1, tunnel: 25h}\n")
        paths = [problem.split(": ")[1] for problem in problems]
        self.assertEqual(paths, ["timeouts.connect", "timeouts.answer", "timeouts.drain", "timeouts.tunnel"])

    def test_wrong_settings(self) -> None:
        self.assertIn("f.yaml:4: fips.module: found 'fips.so'", self.problem(BASE + "fips: {module: fips.so}\n"))
        self.assertIn(
            "tls.minimum_version: found '1.1'; allowed: 1.2 or 1.3",
            self.problem(BASE + "tls: {minimum_version: 1.1}\n"),
        )
        self.assertIn("limits.head_size: found '64KB'", self.problem(BASE + "limits: {head_size: 64KB}\n"))
        wanted = "log.level: found 'trace'; allowed: debug or info or warn or error or critical"
        self.assertIn(wanted, self.problem(BASE + "log: {level: trace}\n"))
        problem = self.problem(BASE + "resolver: {nameservers: [192.0.2.53, dns.example]}\n")
        self.assertIn("f.yaml:4: resolver.nameservers[1]: found 'dns.example'; allowed: an IP address", problem)
        problems = self.problems(BASE + "probes: {enabled: on, interval: 500ms, fall: 0, rise: 101, rize: 1}\n")
        paths = [problem.split(": ")[1] for problem in problems]
        self.assertEqual(paths, [f"probes.{key}" for key in ("enabled", "interval", "fall", "rise", "rize")])
        self.assertIn("unknown key (did you mean 'rise'?)", problems[-1])


class ListenTests(SectionTests):
    """``listen``."""

    def test_settings(self) -> None:
        text = BASE + "listen: {addresses: [10.0.0.1], port_range_start: 10000, allow_remote_plaintext: true}\n"
        config = load_text(text, "f.yaml")
        self.assertEqual(config.listen, Listen(("10.0.0.1",), 10000, True))
        self.assertEqual(config.intakes["logs"].port, 10001)

    def test_remote_plaintext(self) -> None:
        problem = self.problem(BASE + "listen:\n  addresses: [127.0.0.1, 10.0.0.1, '::']\n")
        self.assertIn("f.yaml:5: listen.addresses: 10.0.0.1, :: is reachable", problem)
        self.assertIn("allow_remote_plaintext: true", problem)

    def test_one_problem_when_the_permission_itself_is_wrong(self) -> None:
        problem = self.problem(BASE + "listen: {addresses: [10.0.0.1], allow_remote_plaintext: yes}\n")
        self.assertIn("listen.allow_remote_plaintext: found 'yes'", problem)

    def test_environment(self) -> None:
        environ = {"DD_FIPS_PORT_RANGE_START": "11000", "DD_FIPS_LOCAL_ADDRESS": "127.0.0.2", "DD_FIPS_HTTPS": "true"}
        text = BASE + "listen: {addresses: [127.0.0.3], port_range_start: 10000}\n"
        config = load_text(text, "f.yaml", environ)
        self.assertEqual(config.listen, Listen(("127.0.0.2",), 11000))
        self.assertEqual(config.intakes["logs"].port, 11001)

    def test_environment_localhost(self) -> None:
        config = load_text(
            BASE + "listen: {addresses: [127.0.0.3]}\n", "f.yaml", {"DD_FIPS_LOCAL_ADDRESS": "localhost"}
        )
        self.assertEqual(config.listen.addresses, ("127.0.0.1", "::1"))

    def test_empty_variables_are_not_set(self) -> None:
        environ = {"DD_FIPS_PORT_RANGE_START": "", "DD_FIPS_LOCAL_ADDRESS": ""}
        self.assertEqual(load_text(BASE, "f.yaml", environ).listen, Listen())

    def test_wrong_variables(self) -> None:
        environ = {"DD_FIPS_PORT_RANGE_START": "980x", "DD_FIPS_LOCAL_ADDRESS": "intake"}
        first, second = self.problems(BASE, environ)
        self.assertIn("environment: DD_FIPS_PORT_RANGE_START: found '980x'; allowed: a whole number", first)
        self.assertIn("environment: DD_FIPS_LOCAL_ADDRESS: found 'intake'; allowed: an IP address", second)

    def test_remote_address_in_the_environment(self) -> None:
        problem = self.problem(BASE, {"DD_FIPS_LOCAL_ADDRESS": "0.0.0.0"})
        self.assertIn("environment: DD_FIPS_LOCAL_ADDRESS: 0.0.0.0 is reachable", problem)
        text = BASE + "listen: {allow_remote_plaintext: true}\n"
        self.assertEqual(load_text(text, "f.yaml", {"DD_FIPS_LOCAL_ADDRESS": "0.0.0.0"}).listen.addresses, ("0.0.0.0",))


class EgressTests(SectionTests):
    """``egress``."""

    def load(self, settings: str) -> Egress:
        return load_text(f"{BASE}egress: {{{settings}}}\n", "f.yaml").egress

    def refusal(self, settings: str) -> str:
        problem = self.problem(f"{BASE}egress: {{{settings}}}\n")
        self.assertTrue(problem.startswith("f.yaml:4: egress."), problem)
        return problem.removeprefix("f.yaml:4: egress.")

    def test_settings(self) -> None:
        self.assertEqual(
            self.load("proxy: 'http://user:p%40ss@proxy:3128', no_proxy: [Example.com, 192.0.2.0/24, '*']"),
            Egress(Proxy("proxy", 3128, "user", "p@ss"), "", ("example.com", "192.0.2.0/24", "*")),
        )
        self.assertEqual(
            self.load("proxy: http://user@proxy:3128, password_file: /run/proxy"),
            Egress(Proxy("proxy", 3128, "user"), "/run/proxy"),
        )

    def test_exemptions_alone(self) -> None:
        self.assertEqual(self.load("no_proxy: [example.com]"), Egress(no_proxy=("example.com",)))

    def test_wrong_settings(self) -> None:
        self.assertIn("no_proxy[0]: found '*.example.com'", self.refusal("no_proxy: ['*.example.com']"))
        self.assertIn("proxy: the port is missing", self.refusal("proxy: http://proxy"))
        self.assertIn("prxy: unknown key (did you mean 'proxy'?)", self.refusal("prxy: http://user:tweety@proxy:1"))

    def test_password_file(self) -> None:
        file = "password_file: /run/proxy"
        self.assertIn("password_file: there is no proxy", self.refusal(file))
        self.assertIn("password_file: egress.proxy has no user", self.refusal(f"proxy: http://proxy:1, {file}"))
        problem = self.refusal(f"proxy: http://user:tweety@proxy:1, {file}")
        self.assertEqual(problem, "password_file: egress.proxy holds a password too; allowed: one of the two")

    def test_one_mistake_makes_one_problem(self) -> None:
        self.assertIn("proxy: the port is missing", self.refusal("proxy: http://proxy, password_file: /run/proxy"))
        self.assertIn("password_file: found", self.refusal("password_file: run/proxy"))

    def test_no_message_shows_a_password(self) -> None:
        """Wherever in the section somebody takes the place for it."""
        for section in (
            "http://user:tweety@proxy:3128",
            "tweety",
            "[http://user:tweety@proxy:3128]",
            "{proxy: 'http://user:tweety@proxy'}",
            "{proxy: 'https://user:tweety@proxy:3128'}",
            "{proxy: {user: tweety}}",
            "{proxy: 'http://user@proxy:3128', password_file: tweety}",
            "{proxy: 'http://user@proxy:3128', password_file: [tweety]}",
            "{proxy: 'http://user@proxy:3128', password: tweety}",
        ):
            self.assertNotIn("tweety", self.problem(f"{BASE}egress: {section}\n"))
        found = load_text(f"{BASE}egress: {{proxy: 'http://user:tweety@proxy:3128'}}\n", "f.yaml")
        self.assertNotIn("tweety", repr(found))


class UpstreamTests(SectionTests):
    """``upstreams``."""

    def test_settings(self) -> None:
        text = BASE.replace("other.example.com", "example.com, port: 8443, addresses: [192.0.2.1, '2001:DB8::1']")
        upstreams = load_text(text, "f.yaml").upstreams
        self.assertEqual(upstreams["main"], Upstream("main", "main.example.com", 443, (), False))
        self.assertEqual(upstreams["other"], Upstream("other", "example.com", 8443, ("192.0.2.1", "2001:db8::1")))

    def test_outside_site(self) -> None:
        for host in ("other.example.org", "notexample.com", "example.com.example.org"):
            problem = self.problem(BASE.replace("other.example.com", host))
            self.assertIn(f"f.yaml:2: upstreams.other.host: '{host}' is outside the site", problem)
            self.assertIn("outside_site: true", problem)
            config = load_text(BASE.replace("other.example.com", f"{host}, outside_site: true"), "f.yaml")
            self.assertEqual(config.upstreams["other"], Upstream("other", host, outside_site=True))

    def test_one_mistake_makes_one_problem(self) -> None:
        outside = BASE.replace("other.example.com", "other.example.org")
        self.assertIn("site: found 'com'", self.problem(outside.replace("site: example.com", "site: com")))
        self.assertIn("outside_site: found 'yes'", self.problem(outside.replace(".org", ".org, outside_site: yes")))

    def test_retries(self) -> None:
        for written, expected in {
            "{}": Retries(),
            "null": Retries(),
            "{replay: true}": Retries(True, 262144),
            "{replay: false, replay_size: 0}": Retries(False, 0),
            "{replay: true, replay_size: 16777216}": Retries(True, 16777216),
        }.items():
            text = BASE.replace("other.example.com", f"other.example.com, retries: {written}")
            self.assertEqual(load_text(text, "f.yaml").upstreams["other"].retries, expected)
        for written, problem in {
            "true": "retries: found 'true'; allowed: a mapping",
            "{replay: always}": "retries.replay: found 'always'; allowed: true or false",
            "{replay_size: 16777217}": "retries.replay_size: found '16777217'; allowed: a whole number",
            "{replay_sizes: 1}": "retries.replay_sizes: unknown key (did you mean 'replay_size'?)",
        }.items():
            text = BASE.replace("other.example.com", f"other.example.com, retries: {written}")
            self.assertIn(f"f.yaml:2: upstreams.other.{problem}", self.problem(text))

    def test_no_host(self) -> None:
        self.assertEqual(
            self.problem(BASE.replace("host: other.example.com", "port: 443")),
            "f.yaml:2: upstreams.other: missing: host",
        )

    def test_names(self) -> None:
        for name in ("-a", "a.", "a b", "a/b", "é", "x" * 65, "''"):
            self.assertIn("not a name", self.problem(BASE.replace("other:", f"{name}:")))
        load_text(BASE.replace("other:", f"a.b_c-{'x' * 58}:"), "f.yaml")

    def test_entries_without_settings(self) -> None:
        self.assertIn("upstreams.other: found nothing", self.problem(BASE.replace("{host: other.example.com}", "null")))
        self.assertIn("upstreams.other: found '1'", self.problem(BASE.replace("{host: other.example.com}", "1")))


class IntakeTests(SectionTests):
    """``intakes``."""

    def load(self, intakes: str) -> Config:
        return load_text(BASE.replace("{logs: {offset: 1, upstream: main}}", f"{{{intakes}}}"), "f.yaml")

    def refusals(self, intakes: str) -> list[str]:
        error = self.assertRaises(ConfigError, self.load, intakes)
        return [str(problem).removeprefix("f.yaml:3: ") for problem in error.problems]

    def refusal(self, intakes: str) -> str:
        [problem] = self.refusals(intakes)
        return problem

    def test_settings(self) -> None:
        routes = "[{path_prefix: /a, upstream: other}, {path_prefix: /b/, upstream: main}]"
        other = "b: {port: 9000, protocol: tcp, upstream: other, routes: []}"
        config = self.load(f"a: {{offset: 1, upstream: main, routes: {routes}}}, {other}")
        found = (Route("/a", "other"), Route("/b/", "main"))
        self.assertEqual(config.intakes["a"], Intake("a", 9804, "http", "main", found))
        self.assertEqual(config.intakes["b"], Intake("b", 9000, "tcp", "other"))

    def test_tls(self) -> None:
        config = self.load("a: {offset: 1, upstream: main, tls: {certificate: /a.pem, key: /a.key}}")
        self.assertEqual(config.intakes["a"].tls, LocalTls("/a.pem", "/a.key"))
        self.assertEqual(
            self.refusal("a: {offset: 1, upstream: main, tls: {key: /a}}"), "intakes.a.tls: missing: certificate"
        )
        self.assertIn(
            "intakes.a.tls.key: ", self.refusal("a: {offset: 1, upstream: main, tls: {certificate: /a, key: a}}")
        )

    def test_none(self) -> None:
        self.assertIn("intakes: there are none", self.refusal(""))

    def test_not_a_mapping(self) -> None:
        problem = self.problem(BASE.replace("{logs: {offset: 1, upstream: main}}", "[]"))
        self.assertIn("intakes: found a list; allowed: a mapping", problem)

    def test_missing(self) -> None:
        problems = ["intakes.a: missing: upstream", "intakes.a: found neither of port and offset; allowed: one of them"]
        self.assertEqual(self.refusals("a: {}"), problems)

    def test_port_and_offset(self) -> None:
        self.assertEqual(
            self.refusal("a: {port: 9900, offset: 1, upstream: main}"),
            "intakes.a: found both of port and offset; allowed: one of them",
        )

    def test_unknown_upstream(self) -> None:
        problem = self.refusal("a: {port: 9900, upstream: mian}")
        self.assertEqual(
            problem, "intakes.a.upstream: unknown upstream 'mian' (did you mean 'main'?); defined: main, other"
        )

    def test_an_upstream_that_is_wrong_is_not_unknown(self) -> None:
        self.assertIn("upstreams.main.host: found", self.problem(BASE.replace('"main.{site}"', "main..com")))

    def test_upstreams_that_are_no_mapping_make_one_problem(self) -> None:
        text = "upstreams: []\nintakes: {a: {port: 1, upstream: b, routes: [{path_prefix: /, upstream: c}]}}\n"
        self.assertIn("upstreams: found a list", self.problem(text))

    def test_overlapping_ports(self) -> None:
        problems = self.refusals(
            "a: {port: 9805, upstream: main}, b: {offset: 2, upstream: main}, c: {offset: 0, upstream: main}"
        )
        self.assertEqual(
            problems,
            [
                "intakes.b.offset: port 9805 belongs to a already; allowed: another",
                "intakes.c.offset: port 9803 belongs to the statistics page already; allowed: another",
            ],
        )

    def test_an_intake_of_any_name_may_overlap(self) -> None:
        problem = self.refusal("the statistics page: {port: 9803, upstream: main}")
        self.assertIn("not a name", problem)

    def test_port_beyond_the_last(self) -> None:
        self.assertEqual(
            self.refusal("a: {offset: 55733, upstream: main}"), "intakes.a.offset: port 65536; allowed: up to 65535"
        )
        self.assertEqual(self.load("a: {offset: 55732, upstream: main}").intakes["a"].port, 65535)

    def test_no_further_problems_when_the_start_is_wrong(self) -> None:
        text = BASE.replace("offset: 1", "port: 9803")
        self.assertIn("port_range_start", self.problem(text + "listen: {port_range_start: 0}\n"))
        self.assertIn("DD_FIPS_PORT_RANGE_START", self.problem(text, {"DD_FIPS_PORT_RANGE_START": "0"}))
        text = BASE.replace("{logs:", "{a: {port: 9804, upstream: main}, logs:")
        self.assertIn("port_range_start", self.problem(text + "listen: {port_range_start: 0}\n"))

    def test_routes_on_tcp(self) -> None:
        routes = "routes: [{path_prefix: /a, upstream: main}]"
        problem = self.refusal(f"a: {{port: 9900, protocol: tcp, upstream: main, {routes}}}")
        self.assertIn("intakes.a.protocol: tcp has no paths", problem)

    def test_duplicate_routes(self) -> None:
        prefixes = ("/a", "/ab", "/a/")
        routes = "[" + ", ".join(f"{{path_prefix: {prefix}, upstream: main}}" for prefix in prefixes) + "]"
        problem = self.refusal(f"a: {{port: 9900, upstream: main, routes: {routes}}}")
        self.assertEqual(problem, "intakes.a.routes[2]: duplicate route; an earlier one has the same path_prefix")

    def test_wrong_routes(self) -> None:
        routes = "[{path_prefix: a, upstream: b}, {}, x, {path_prefix: /a, upstream: main, host: c}]"
        problems = self.refusals(f"a: {{port: 9900, upstream: main, routes: {routes}}}")
        self.assertEqual(
            [problem.split(": ")[0] for problem in problems],
            [
                "intakes.a.routes[0].path_prefix",
                "intakes.a.routes[0].upstream",
                "intakes.a.routes[1]",
                "intakes.a.routes[2]",
                "intakes.a.routes[3].host",
            ],
        )
        self.assertIn("missing: path_prefix, upstream", problems[2])
