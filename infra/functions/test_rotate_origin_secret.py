"""Tests of rotate_origin_secret.py against strict, stateful twins of the three services.

The twins refuse what AWS refuses (a wrong ETag, a sixth value of a rule, a condition written in two
forms) and keep, after every call, the invariant of the function: whatever an edge may send, the load
balancer accepts. Run from infra/tests/functions.rs, or by hand: python3 -m unittest -v (in this folder).
"""
import copy
import datetime
import importlib
import itertools
import os
import sys
import types
import unittest

ARN, RULE, SITE = "arn:secret", "arn:rule", "E1"
STEPS = ["createSecret", "setSecret", "testSecret", "finishSecret"]


class Killed(BaseException):
    """The function's process ends here."""


class NotFound(Exception):
    pass


class World:
    """The three services. Every call is counted, may be the last, and is followed by a look at the invariant."""

    def __init__(self, origins=1):
        self.now = 1_000_000.0
        self.versions = {"v0": {"value": "old", "stages": {"AWSCURRENT"}, "made": 0.0}}
        self.conditions = [
            {"Field": "path-pattern", "Values": ["/*"], "PathPatternConfig": {"Values": ["/*"]}},
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Origin-Verify", "Values": ["old"]}},
        ]
        self.config = {"Origins": {"Items": [
            *({"Id": f"app{n}", "CustomHeaders": {"Quantity": 1, "Items": [
                {"HeaderName": "X-Origin-Verify", "HeaderValue": "old"}]}} for n in range(origins)),
            {"Id": "static", "CustomHeaders": {"Quantity": 0}},
            {"Id": "other"},
        ]}}
        self.etag, self.deploying_until = 1, 0.0
        self.edges = {"old"}  # every value that some edge sends
        self.meanwhile = {}  # what others do right after a call of this name, once
        self.calls, self.die_after, self.passwords = [], None, itertools.count(1)
        self.deploy_seconds, self.watching = 240, True

    # what the outside does
    def begin(self, token):
        for other in self.versions.values():
            other["stages"].discard("AWSPENDING")
        self.versions.setdefault(token, {"value": None, "stages": set(), "made": self.now})["stages"].add("AWSPENDING")

    def current(self):
        return next(v for v in self.versions.values() if "AWSCURRENT" in v["stages"])["value"]

    def accepted(self):
        return set(self.conditions[1]["HttpHeaderConfig"]["Values"])

    def sent(self):
        return {h["HeaderValue"] for o in self.config["Origins"]["Items"] for h in o.get("CustomHeaders", {}).get("Items", [])}

    def push(self, value):
        """A distribution update by somebody: the edges change over one by one."""
        for o in self.config["Origins"]["Items"]:
            for h in o.get("CustomHeaders", {}).get("Items", []):
                h["HeaderValue"] = value
        self.etag += 1
        self.deploying_until = self.now + self.deploy_seconds
        self.edges |= {value}

    def settle(self):
        if self.now >= self.deploying_until:
            self.edges = self.sent()

    def sleep(self, seconds):
        self.now += seconds
        self.settle()

    def call(self, name):
        self.settle()
        self.calls.append(name)

    def done(self, name):
        self.meanwhile.pop(name, lambda: None)()
        lost = self.edges - self.accepted()
        if lost and self.watching:
            raise AssertionError(f"after {name} edges send {lost}, which the load balancer refuses")
        if self.die_after is not None and len(self.calls) >= self.die_after:
            raise Killed(name)

    # Secrets Manager
    def describe_secret(self, SecretId):
        assert SecretId == ARN
        self.call("describe_secret")
        self.done("describe_secret")
        return {"VersionIdsToStages": {k: sorted(v["stages"]) for k, v in self.versions.items() if v["stages"]}}

    def get_secret_value(self, SecretId, VersionId):
        assert SecretId == ARN
        self.call("get_secret_value")
        self.done("get_secret_value")
        found = self.versions.get(VersionId)
        if found is None or found["value"] is None:
            raise NotFound(VersionId)
        made = datetime.datetime.fromtimestamp(found["made"], datetime.timezone.utc)
        return {"SecretString": found["value"], "CreatedDate": made}

    def get_random_password(self, PasswordLength, ExcludePunctuation):
        assert PasswordLength >= 32 and ExcludePunctuation, "a header's value must be long and plain"
        self.call("get_random_password")
        self.done("get_random_password")
        return {"RandomPassword": f"new{next(self.passwords)}"}

    def put_secret_value(self, SecretId, ClientRequestToken, SecretString, VersionStages):
        assert SecretId == ARN and VersionStages == ["AWSPENDING"]
        self.call("put_secret_value")
        version = self.versions[ClientRequestToken]
        assert version["value"] in (None, SecretString), "ResourceExistsException: a version's value never changes"
        version["value"], version["made"] = SecretString, self.now
        self.done("put_secret_value")

    def update_secret_version_stage(self, SecretId, VersionStage, MoveToVersionId, RemoveFromVersionId):
        assert SecretId == ARN and VersionStage == "AWSCURRENT"
        self.call("update_secret_version_stage")
        source, target = self.versions[RemoveFromVersionId], self.versions[MoveToVersionId]
        assert "AWSCURRENT" in source["stages"], "InvalidParameterException: not attached there"
        for v in self.versions.values():
            v["stages"].discard("AWSPREVIOUS")
        source["stages"].discard("AWSCURRENT")
        source["stages"].add("AWSPREVIOUS")
        target["stages"].add("AWSCURRENT")
        self.done("update_secret_version_stage")

    # Load balancer
    def describe_rules(self, RuleArns):
        assert RuleArns == [RULE]
        self.call("describe_rules")
        self.done("describe_rules")
        return {"Rules": [{"RuleArn": RULE, "Conditions": copy.deepcopy(self.conditions)}]}

    def modify_rule(self, RuleArn, Conditions):
        assert RuleArn == RULE
        self.call("modify_rule")
        for c in Conditions:
            assert len(c) == 2, f"ValidationError: {c} is said in two forms"
        fresh = []
        for c in Conditions:
            inner = next(v for k, v in c.items() if k != "Field")
            if c["Field"] == "path-pattern":
                c = {**c, "Values": inner["Values"]}
            fresh.append(copy.deepcopy(c))
        count = sum(len(c.get("PathPatternConfig", c.get("HttpHeaderConfig"))["Values"]) for c in fresh)
        assert count <= 5, "TooManyConditionValues"
        assert [c["Field"] for c in fresh] == ["path-pattern", "http-header"], "a condition was lost"
        self.conditions = fresh
        self.done("modify_rule")

    # CloudFront
    def get_distribution(self, Id):
        assert Id == SITE
        self.call("get_distribution")
        self.done("get_distribution")
        status = "Deployed" if self.now >= self.deploying_until else "InProgress"
        return {"ETag": f"T{self.etag}",
                "Distribution": {"Status": status, "DistributionConfig": copy.deepcopy(self.config)}}

    def update_distribution(self, Id, IfMatch, DistributionConfig):
        assert Id == SITE
        self.call("update_distribution")
        assert IfMatch == f"T{self.etag}", "PreconditionFailed"
        self.config = copy.deepcopy(DistributionConfig)
        self.etag += 1
        self.deploying_until = self.now + self.deploy_seconds
        self.edges |= self.sent()
        self.done("update_distribution")


class Client:
    """A boto3 client that has the twin's methods and nothing else."""

    def __init__(self, world, methods):
        for m in methods:
            setattr(self, m, getattr(world, m))
        self.exceptions = types.SimpleNamespace(ResourceNotFoundException=NotFound)


class Context:
    def __init__(self, world, seconds):
        self.world, self.end = world, world.now + seconds

    def get_remaining_time_in_millis(self):
        return int((self.end - self.world.now) * 1000)


def load(world, grace=0):
    """The function as Lambda would load it, with the twins as boto3."""
    services = {
        "secretsmanager": ["describe_secret", "get_secret_value", "get_random_password", "put_secret_value",
                           "update_secret_version_stage"],
        "elbv2": ["describe_rules", "modify_rule"],
        "cloudfront": ["get_distribution", "update_distribution"],
    }
    os.environ.update(HEADER="X-Origin-Verify", RULE_ARN=RULE, DISTRIBUTION_ID=SITE, HOST_GRACE_SECONDS=str(grace))
    sys.modules["boto3"] = types.SimpleNamespace(client=lambda name: Client(world, services[name]))
    sys.modules.pop("rotate_origin_secret", None)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    module = importlib.import_module("rotate_origin_secret")
    module.time = types.SimpleNamespace(time=lambda: world.now, sleep=world.sleep)
    return module


def step(module, world, name, token, seconds=900):
    return module.handler({"SecretId": ARN, "ClientRequestToken": token, "Step": name}, Context(world, seconds))


def rotate(module, world, token, seconds=900):
    for name in STEPS:
        step(module, world, name, token, seconds)


class Rotation(unittest.TestCase):
    def assert_rotated(self, world, token):
        value = world.versions[token]["value"]
        self.assertEqual(world.current(), value)
        self.assertEqual(world.accepted(), {value})
        self.assertEqual(world.sent(), {value})
        self.assertEqual(world.edges, {value})

    def test_a_rotation_leaves_the_new_value_everywhere_and_the_old_one_nowhere(self):
        world = World(origins=2)
        module = load(world)
        world.begin("t1")
        rotate(module, world, "t1")
        self.assert_rotated(world, "t1")
        self.assertEqual(world.versions["v0"]["stages"], {"AWSPREVIOUS"})

    def test_every_step_may_be_repeated(self):
        world = World()
        module = load(world)
        world.begin("t1")
        for name in STEPS:
            for _ in range(3):
                step(module, world, name, "t1")
        self.assert_rotated(world, "t1")
        self.assertEqual(world.calls.count("put_secret_value"), 1)
        self.assertEqual(world.calls.count("modify_rule"), 2)
        self.assertEqual(world.calls.count("update_distribution"), 1)
        self.assertEqual(world.calls.count("update_secret_version_stage"), 1)

    def test_killed_after_any_call_and_started_over_it_ends_the_same(self):
        whole = World()
        module = load(whole)
        whole.begin("t1")
        rotate(module, whole, "t1")
        self.assertGreater(len(whole.calls), 15)
        for at in range(1, len(whole.calls) + 1):
            with self.subTest(killed_after=f"call {at}, {whole.calls[at - 1]}"):
                world = World()
                module = load(world)
                world.begin("t1")
                world.die_after = at
                with self.assertRaises(Killed):
                    rotate(module, world, "t1")
                world.die_after = None
                rotate(module, world, "t1")
                self.assert_rotated(world, "t1")

    def test_killed_twice_at_any_two_places_it_ends_the_same(self):
        for first, second in itertools.product(range(2, 30, 3), range(1, 20, 2)):
            with self.subTest(first=first, second=second):
                world = World()
                module = load(world)
                world.begin("t1")
                for more in (first, second):
                    world.die_after = len(world.calls) + more
                    try:
                        rotate(module, world, "t1")
                    except Killed:
                        pass
                world.die_after = None
                rotate(module, world, "t1")
                self.assert_rotated(world, "t1")

    def test_steps_out_of_order_change_nothing_hands_may_not_have(self):
        for order in itertools.permutations(STEPS):
            with self.subTest(order=order):
                world = World()
                module = load(world)
                world.begin("t1")
                for name in order:
                    try:
                        step(module, world, name, "t1", seconds=600)
                    except (NotFound, TimeoutError):
                        pass
                    if world.current() != "old":
                        self.assertEqual(world.edges, {world.current()}, "hands changed before the edges")
                rotate(module, world, "t1")
                self.assert_rotated(world, "t1")

    def test_the_old_value_is_accepted_until_every_edge_sends_the_new_one(self):
        world = World()
        module = load(world)
        world.begin("t1")
        for name in STEPS[:2]:
            step(module, world, name, "t1")
        with self.assertRaises(TimeoutError):
            step(module, world, "finishSecret", "t1", seconds=60)
        self.assertEqual(world.accepted(), {"old", "new1"})
        self.assertEqual(world.current(), "old")

    def test_testing_waits_no_longer_than_its_time(self):
        world = World()
        world.deploy_seconds = 3600
        module = load(world)
        world.begin("t1")
        step(module, world, "createSecret", "t1")
        step(module, world, "setSecret", "t1")
        before = world.now
        with self.assertRaises(TimeoutError):
            step(module, world, "testSecret", "t1", seconds=900)
        self.assertLessEqual(world.now - before, 900 - 25)

    def test_hosts_have_their_time_before_cloudfront_sends_the_new_value(self):
        world = World()
        module = load(world, grace=300)
        world.begin("t1")
        step(module, world, "createSecret", "t1")
        made = world.now
        step(module, world, "setSecret", "t1")
        self.assertGreaterEqual(world.now - made, 300)
        self.assertEqual(world.sent(), {"new1"})

    def test_a_stack_update_in_the_middle_sends_the_old_value_and_is_made_good(self):
        for after in range(1, 5):
            with self.subTest(after=after):
                world = World()
                module = load(world)
                world.begin("t1")
                for name in STEPS[:after]:
                    step(module, world, name, "t1")
                world.push(world.current())
                self.assertLessEqual(world.edges, world.accepted())
                rotate(module, world, "t1")
                self.assert_rotated(world, "t1")

    def test_what_is_current_is_accepted_even_when_no_edge_sends_it(self):
        world = World()
        module = load(world)
        for token in ("given-up", "t2"):
            world.begin(token)
            step(module, world, "createSecret", token)
            step(module, world, "setSecret", token)
            world.sleep(world.deploy_seconds)
        self.assertEqual(world.edges, {"new2"})
        world.push("old")
        self.assertLessEqual(world.edges, world.accepted())

    def test_values_still_under_way_are_accepted_when_rotations_follow_one_another(self):
        world = World()
        module = load(world)
        for token in ("t1", "t2", "t3"):
            world.begin(token)
            step(module, world, "createSecret", token)
            step(module, world, "setSecret", token)
        self.assertEqual(world.accepted(), {"old", "new1", "new2", "new3"})
        rotate(module, world, "t3")
        self.assert_rotated(world, "t3")

    def test_a_stack_update_while_hands_change_keeps_the_old_value_accepted(self):
        world = World()
        module = load(world)
        world.begin("t1")
        world.meanwhile["update_secret_version_stage"] = lambda: world.push("old")
        with self.assertRaises(TimeoutError):
            rotate(module, world, "t1")
        self.assertLessEqual(world.edges, world.accepted())
        rotate(module, world, "t1")
        self.assert_rotated(world, "t1")

    def test_half_a_set_step_is_not_taken_for_a_whole_one(self):
        world = World()
        module = load(world)
        world.begin("t1")
        step(module, world, "createSecret", "t1")

        def die():
            raise Killed("modify_rule")

        world.meanwhile["modify_rule"] = die
        with self.assertRaises(Killed):
            step(module, world, "setSecret", "t1")
        for name in STEPS[2:]:
            with self.assertRaises(TimeoutError):
                step(module, world, name, "t1")
        self.assertEqual(world.current(), "old")

    def test_a_listener_that_a_stack_update_set_back_is_noticed_and_made_good(self):
        world = World()
        module = load(world)
        world.begin("t1")
        step(module, world, "createSecret", "t1")
        step(module, world, "setSecret", "t1")
        world.sleep(600)
        world.watching = False  # what the stack update broke is not the function's doing
        world.conditions[1]["HttpHeaderConfig"]["Values"] = ["old"]
        for name in STEPS[2:]:
            with self.assertRaises(TimeoutError):
                step(module, world, name, "t1", seconds=90)
        self.assertEqual(world.current(), "old")
        step(module, world, "setSecret", "t1")
        world.watching = True
        rotate(module, world, "t1")
        self.assert_rotated(world, "t1")

    def test_given_up_rotations_do_not_fill_the_rule(self):
        world = World()
        module = load(world)
        for n in range(1, 12):
            world.begin(f"t{n}")
            step(module, world, "createSecret", f"t{n}")
            step(module, world, "setSecret", f"t{n}")
            world.sleep(world.deploy_seconds)
        world.begin("last")
        rotate(module, world, "last")
        self.assert_rotated(world, "last")

    def test_a_version_that_is_not_pending_is_refused_before_anything_changes(self):
        world = World()
        module = load(world)
        world.versions["stray"] = {"value": "x", "stages": {"AWSPREVIOUS"}, "made": 0.0}
        for token in ("stray", "unknown"):
            for name in STEPS:
                with self.assertRaises(ValueError):
                    step(module, world, name, token)
        self.assertEqual(set(world.calls), {"describe_secret"})

    def test_an_unknown_step_is_refused(self):
        world = World()
        module = load(world)
        world.begin("t1")
        step(module, world, "createSecret", "t1")
        with self.assertRaises(ValueError):
            step(module, world, "celebrate", "t1")

    def test_a_distribution_without_the_header_is_not_called_done(self):
        world = World()
        module = load(world)
        for o in world.config["Origins"]["Items"]:
            o["CustomHeaders"] = {"Quantity": 0}
        world.begin("t1")
        step(module, world, "createSecret", "t1")
        with self.assertRaises(ValueError):
            step(module, world, "setSecret", "t1")
        self.assertEqual(world.accepted(), {"old"})

    def test_the_source_fits_into_a_template(self):
        here = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(here, "rotate_origin_secret.py"), encoding="utf-8") as source:
            self.assertLessEqual(len(source.read()), 4096)


if __name__ == "__main__":
    unittest.main()
