"""Tests of default_sg.py against a strict twin of EC2 and a twin of CloudFormation's answer box.

Run from infra/tests/functions.rs, or by hand: python3 -m unittest -v (in this folder).
"""
import copy
import importlib
import json
import os
import sys
import types
import unittest

EVERYONE = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
ITSELF = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": "sg-1"}]}


class Ec2:
    """One security group. Taking away what is not there is refused, as EC2 does."""

    def __init__(self, name="default"):
        self.group = {"GroupId": "sg-1", "GroupName": name,
                      "IpPermissions": [ITSELF], "IpPermissionsEgress": [EVERYONE]}
        self.broken = None

    def describe_security_groups(self, GroupIds):
        assert GroupIds == ["sg-1"], "InvalidGroup.NotFound"
        if self.broken:
            raise self.broken
        return {"SecurityGroups": [copy.deepcopy(self.group)]}

    def take(self, side, permissions):
        assert permissions, "MissingParameter: no permission to revoke"
        for permission in permissions:
            assert permission in self.group[side], "InvalidPermission.NotFound"
            self.group[side].remove(permission)

    def revoke_security_group_ingress(self, GroupId, IpPermissions):
        assert GroupId == "sg-1"
        self.take("IpPermissions", IpPermissions)

    def revoke_security_group_egress(self, GroupId, IpPermissions):
        assert GroupId == "sg-1"
        self.take("IpPermissionsEgress", IpPermissions)


class Answered:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


class DefaultGroup(unittest.TestCase):
    def setUp(self):
        self.ec2, self.answers = Ec2(), []
        sys.modules["boto3"] = types.SimpleNamespace(client=lambda name: {"ec2": self.ec2}[name])
        sys.modules.pop("default_sg", None)
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        self.module = importlib.import_module("default_sg")
        self.open = self.module.urllib.request.urlopen
        self.module.urllib.request.urlopen = self.take_answer

    def tearDown(self):
        self.module.urllib.request.urlopen = self.open

    def take_answer(self, request, timeout):
        self.assertEqual(request.get_method(), "PUT")
        self.assertEqual(request.full_url, "https://cloudformation.test/answer")
        # The presigned URL is for an empty content type; with any other S3 refuses.
        self.assertEqual(request.get_header("Content-type"), "")
        self.assertLessEqual(len(request.data), 4096, "CloudFormation takes no longer answer")
        self.answers.append(json.loads(request.data))
        return Answered()

    def call(self, kind, **more):
        event = {"RequestType": kind, "StackId": "stack", "RequestId": "request", "LogicalResourceId": "Lock",
                 "ResponseURL": "https://cloudformation.test/answer",
                 "ResourceProperties": {"SecurityGroupId": "sg-1"}, **more}
        self.module.handler(event, types.SimpleNamespace(log_stream_name="stream"))
        return self.answers[-1]

    def test_every_rule_is_taken_and_cloudformation_is_told(self):
        answer = self.call("Create")
        self.assertEqual(answer["Status"], "SUCCESS")
        self.assertEqual((answer["StackId"], answer["RequestId"], answer["LogicalResourceId"]),
                         ("stack", "request", "Lock"))
        self.assertEqual((self.ec2.group["IpPermissions"], self.ec2.group["IpPermissionsEgress"]), ([], []))

    def test_a_second_run_finds_nothing_to_do_and_keeps_the_physical_id(self):
        first = self.call("Create")["PhysicalResourceId"]
        second = self.call("Update", PhysicalResourceId=first)
        self.assertEqual(second["Status"], "SUCCESS")
        self.assertEqual(second["PhysicalResourceId"], first)

    def test_deleting_gives_no_rule_back_and_does_not_need_the_group(self):
        self.call("Create")
        self.ec2.broken = RuntimeError("gone")
        answer = self.call("Delete", PhysicalResourceId="id")
        self.assertEqual((answer["Status"], answer["PhysicalResourceId"]), ("SUCCESS", "id"))
        self.assertEqual(self.ec2.group["IpPermissions"], [])

    def test_a_failure_is_answered_with_its_reason(self):
        self.ec2.broken = RuntimeError("x" * 5000)
        answer = self.call("Create")
        self.assertEqual(answer["Status"], "FAILED")
        self.assertTrue(answer["Reason"].startswith("RuntimeError: xxx"))
        self.assertTrue(answer["PhysicalResourceId"])

    def test_a_group_of_another_name_is_left_alone(self):
        self.ec2.group["GroupName"] = "database"
        self.assertEqual(self.call("Create")["Status"], "FAILED")
        self.assertEqual(self.ec2.group["IpPermissionsEgress"], [EVERYONE])


if __name__ == "__main__":
    unittest.main()
