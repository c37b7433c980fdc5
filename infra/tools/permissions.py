"""Which permissions CloudFormation needs for each type that the templates use.

The resource schemas that cfn-lint carries say what every handler calls. This prints what is kept in
infra/permissions.json; rule I03 holds the deploy role against it.

    python infra/tools/permissions.py [--check] [infra]      (a Python that has cfn-lint)
"""

import fnmatch
import json
import pathlib
import re
import sys

from cfnlint.data import AdditionalSpecs
from cfnlint.helpers import load_resource
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from cfnlint.version import __version__

# What is done to a resource in its life; `list` is for importing resources, which nobody does here.
HANDLERS = ("create", "read", "update", "delete")
# A type from before there were handlers, whose schema says nothing.
SILENT = {
    "AWS::Route53::RecordSetGroup": [
        "route53:ChangeResourceRecordSets",
        "route53:GetChange",
        "route53:GetHostedZone",
        "route53:ListResourceRecordSets",
    ],
}
# The type of a resource, which stands two steps in; a template within a template is deeper.
TYPE = re.compile(r"^(?:    |  \w+: \{ )Type: [\"']?(AWS::\w+::\w+)\b", re.MULTILINE)


def types(root):
    """Types of resources in all templates; parameters' types of the same look are no resources."""
    found = set()
    for template in sorted((root / "templates").glob("*.yaml")):
        text = template.read_text(encoding="utf-8")
        resources = text.split("\nResources:", 1)[-1].split("\nOutputs:", 1)[0]
        found.update(TYPE.findall(resources))
    return sorted(found)


# Services and their actions, all in lower case.
IAM = load_resource(AdditionalSpecs, "Policies.json")


def is_action(action):
    """Whether IAM knows it: schemas also name calls that no policy can allow."""
    service, what = action.lower().split(":", 1)
    return any(fnmatch.fnmatchcase(known, what) for known in IAM.get(service, {}).get("Actions", {}))


def permissions(kind):
    """Actions that a type's handlers call, sorted."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    handlers = schema.get("handlers", {})
    actions = set()
    for handler in HANDLERS:
        actions.update(a.strip() for a in handlers.get(handler, {}).get("permissions", []))
    # Some write a service with a capital; IAM does not care, and one spelling is enough.
    pairs = (a.split(":", 1) for a in actions if a and is_action(a))
    spelled = {f"{service.lower()}:{what}" for service, what in pairs}
    return sorted(spelled or SILENT.get(kind, []))


def main(arguments):
    check = "--check" in arguments
    rest = [a for a in arguments if a != "--check"]
    root = pathlib.Path(rest[0] if rest else "infra")
    digest = {
        "v": 1,
        "source": f"resource schemas of cfn-lint {__version__}: {', '.join(HANDLERS)}",
        "types": {kind: permissions(kind) for kind in types(root)},
    }
    text = json.dumps(digest, indent=1, sort_keys=True) + "\n"
    file = root / "permissions.json"
    if not check:
        file.write_text(text, encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8"))["types"] != digest["types"]:
        print(f"error: {file}: is not what the schemas say\nhint: python infra/tools/permissions.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
