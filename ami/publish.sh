#!/bin/sh
# Tells the fleet which image to use: publish.sh MANIFEST
#
# PUBLISH_TO names the environment; without it nothing is published. The id of the manifest's last build
# goes into the parameter /palisade/<env>/ami/origin of each region that has the image. The parameter's
# type makes SSM itself check that such an image exists.
set -eu

manifest=$1
if [ -z "${PUBLISH_TO:-}" ]; then
    echo "publish: no environment given, nothing is published"
    exit 0
fi

# REGION:AMI[,REGION:AMI...], as Packer writes it.
artifact=$(python3 - "$manifest" << 'EOF'
import json, sys
manifest = json.load(open(sys.argv[1]))
last = manifest["last_run_uuid"]
builds = [b for b in manifest["builds"] if b["packer_run_uuid"] == last and b["builder_type"] == "amazon-ebs"]
if len(builds) != 1:
    sys.exit(f"publish: the manifest's last run has {len(builds)} AMIs, not one")
print(builds[0]["artifact_id"])
EOF
)

echo "$artifact" | tr ',' '\n' | while IFS=: read -r region ami; do
    case $ami in
    ami-*) ;;
    *)
        echo "publish: '$region:$ami' is not an AMI" >&2
        exit 1
        ;;
    esac
    aws ssm put-parameter --region "$region" --name "/palisade/$PUBLISH_TO/ami/origin" \
        --type String --data-type aws:ec2:image --value "$ami" --overwrite
    echo "publish: /palisade/$PUBLISH_TO/ami/origin in $region is $ami"
done
