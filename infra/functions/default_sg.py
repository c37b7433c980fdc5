"""Custom resource: takes every rule from a VPC's default security group.

Invariants: CloudFormation always gets an answer, also when this fails and on Delete; running it again on an
emptied group changes nothing; the physical id never changes, so that an update never replaces anything.
"""

import json
import urllib.request

import boto3


def handler(event, context):
    try:
        if event["RequestType"] != "Delete":
            empty(boto3.client("ec2"), event["ResourceProperties"]["SecurityGroupId"])
        answer(event, context, "SUCCESS", "")
    except Exception as problem:  # whatever it was, the stack must hear of it
        answer(event, context, "FAILED", f"{type(problem).__name__}: {problem}")


def empty(ec2, group_id):
    """Rules are taken as they are found. On Delete they stay away: nothing may use this group."""
    group = ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"][0]
    if group["GroupName"] != "default":
        raise ValueError(f"{group_id} is not a default security group")
    if group["IpPermissions"]:
        ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=group["IpPermissions"])
    if group["IpPermissionsEgress"]:
        ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=group["IpPermissionsEgress"])


def answer(event, context, status, reason):
    body = json.dumps({
        "Status": status,
        "Reason": f"{reason} (log stream {context.log_stream_name})"[:1000],
        "PhysicalResourceId": event.get("PhysicalResourceId", "default-security-group-" + event["LogicalResourceId"]),
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
    }).encode()
    request = urllib.request.Request(event["ResponseURL"], data=body, method="PUT", headers={"Content-Type": ""})
    with urllib.request.urlopen(request, timeout=20):
        pass
