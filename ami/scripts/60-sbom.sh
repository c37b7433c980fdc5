# What is in the image, as SPDX 2.3 JSON: every Debian package with its version, source and URL. Written
# into the image, and fetched from it as an artefact of the build.

out=/usr/share/palisade/sbom.spdx.json
install -d -m 0755 /usr/share/palisade

# NAME VERSION ARCHITECTURE SOURCE SOURCE-VERSION, sorted: the same packages give the same document but
# for its date. Names and versions of Debian packages need no escapes in JSON.
dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n' |
    sed -n 's/^installed //p' | LC_ALL=C sort > /tmp/packages
id=$(sha256sum < /tmp/packages | cut -c 1-64)

awk -v id="$id" -v date="$(date -u +%Y-%m-%dT%H:%M:%SZ)" -v agent="$AGENT_VERSION" '
    # Package URLs escape these three.
    function escaped(s) { gsub(/%/, "%25", s); gsub(/\+/, "%2B", s); gsub(/:/, "%3A", s); return s }
    function ref(s) { gsub(/[^A-Za-z0-9.-]/, "-", s); return "SPDXRef-Package-" s }
    BEGIN {
        printf "{\n  \"spdxVersion\": \"SPDX-2.3\",\n  \"dataLicense\": \"CC0-1.0\",\n"
        printf "  \"SPDXID\": \"SPDXRef-DOCUMENT\",\n  \"name\": \"palisade-origin-%s\",\n", agent
        printf "  \"documentNamespace\": \"https://github.com/palisade-host/palisade/sbom/%s\",\n", id
        printf "  \"creationInfo\": { \"created\": \"%s\", \"creators\": [\"Tool: palisade-ami-sbom\"] },\n", date
        printf "  \"packages\": ["
    }
    {
        name = $1; version = $2; arch = $3
        # Two architectures of one package would be two entries.
        id_of[NR] = ref(name "-" arch)
        printf "%s\n    { \"SPDXID\": \"%s\", \"name\": \"%s\", \"versionInfo\": \"%s\",", (NR > 1 ? "," : ""), id_of[NR], name, version
        printf " \"downloadLocation\": \"NOASSERTION\", \"filesAnalyzed\": false,"
        printf " \"licenseConcluded\": \"NOASSERTION\", \"licenseDeclared\": \"NOASSERTION\", \"copyrightText\": \"NOASSERTION\","
        printf " \"sourceInfo\": \"built from %s %s\",", $4, $5
        printf " \"externalRefs\": [{ \"referenceCategory\": \"PACKAGE-MANAGER\", \"referenceType\": \"purl\","
        printf " \"referenceLocator\": \"pkg:deb/debian/%s@%s?arch=%s\" }] }", escaped(name), escaped(version), arch
    }
    END {
        printf "\n  ],\n  \"relationships\": ["
        for (i = 1; i <= NR; i++)
            printf "%s\n    { \"spdxElementId\": \"SPDXRef-DOCUMENT\", \"relationshipType\": \"DESCRIBES\", \"relatedSpdxElement\": \"%s\" }", (i > 1 ? "," : ""), id_of[i]
        printf "\n  ]\n}\n"
    }' /tmp/packages > $out
rm -f /tmp/packages
chmod 0644 $out
# A document that does not parse fails the build.
python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert len(d["packages"]) > 50' $out
