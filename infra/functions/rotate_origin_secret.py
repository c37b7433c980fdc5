"""Changes the secret header by which the origin knows our CloudFront.

Invariant: the load balancer accepts every value that an edge may still send: the new one before
CloudFront sends it, the old one until no edge does. A step does what it finds missing, so it may
run twice and be killed anywhere.
"""
import os
import time

import boto3

HEADER = os.environ["HEADER"].lower()
RULE = os.environ["RULE_ARN"]
SITE = os.environ["DISTRIBUTION_ID"]
GRACE = int(os.environ["HOST_GRACE_SECONDS"])

sm = boto3.client("secretsmanager")
elb = boto3.client("elbv2")
cdn = boto3.client("cloudfront")


def handler(event, context):
    arn, token, step = event["SecretId"], event["ClientRequestToken"], event["Step"]
    stages = sm.describe_secret(SecretId=arn)["VersionIdsToStages"]
    old = next(v for v, labels in stages.items() if "AWSCURRENT" in labels)
    if old != token and "AWSPENDING" not in stages.get(token, []):
        raise ValueError(f"version {token} is not pending")
    if step == "createSecret":
        return create(arn, token)
    pending = read(arn, token)
    new = pending["SecretString"]
    if step == "setSecret":
        accept_also({read(arn, old)["SecretString"], new})
        due = pending["CreatedDate"].timestamp() + GRACE  # hosts read it themselves
        wait(context, lambda: time.time() >= due)
        send(new)
    elif step == "testSecret":
        wait(context, lambda: ready(new))
    elif step == "finishSecret":
        wait(context, lambda: ready(new))
        if old != token:
            sm.update_secret_version_stage(SecretId=arn, VersionStage="AWSCURRENT",
                                           MoveToVersionId=token, RemoveFromVersionId=old)
        wait(context, lambda: ready(new))  # a stack update may send the old one
        accept({new})
    else:
        raise ValueError(f"unknown step {step}")


def read(arn, version):
    return sm.get_secret_value(SecretId=arn, VersionId=version)


def create(arn, token):
    try:
        read(arn, token)
    except sm.exceptions.ResourceNotFoundException:
        new = sm.get_random_password(PasswordLength=48, ExcludePunctuation=True)
        sm.put_secret_value(SecretId=arn, ClientRequestToken=token,
                            SecretString=new["RandomPassword"], VersionStages=["AWSPENDING"])


def wait(context, done):
    while not done():
        if context.get_remaining_time_in_millis() < 30000:
            raise TimeoutError("not yet; call again")
        time.sleep(5)


def rule():
    found = elb.describe_rules(RuleArns=[RULE])["Rules"][0]["Conditions"]
    return found, next(c for c in found if c["Field"] == "http-header")["HttpHeaderConfig"]


def accept(wanted):
    found, config = rule()
    if set(config["Values"]) != wanted:
        config["Values"] = sorted(wanted)
        # Conditions read in two forms and are written in one.
        elb.modify_rule(RuleArn=RULE, Conditions=[
            {k: v for k, v in c.items() if k != "Values" or len(c) == 2} for c in found])


def accept_also(values):
    settled, sent, _, _ = edge()
    # What no edge sends makes room: a rule holds five values.
    accept(values | sent | (set() if settled else set(rule()[1]["Values"])))


def edge():
    got = cdn.get_distribution(Id=SITE)
    site = got["Distribution"]
    sets = [h for o in site["DistributionConfig"]["Origins"]["Items"]
            for h in o.get("CustomHeaders", {}).get("Items", []) if h["HeaderName"].lower() == HEADER]
    if not sets:
        raise ValueError("no origin has the header")
    return site["Status"] == "Deployed", {h["HeaderValue"] for h in sets}, sets, got


def send(new):
    _, sent, sets, got = edge()
    if sent != {new}:
        for h in sets:
            h["HeaderValue"] = new
        cdn.update_distribution(Id=SITE, IfMatch=got["ETag"],
                                DistributionConfig=got["Distribution"]["DistributionConfig"])


def ready(new):
    settled, sent, _, _ = edge()
    return settled and sent == {new} and new in rule()[1]["Values"]
