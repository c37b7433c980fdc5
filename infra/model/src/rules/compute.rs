//! C01, C02: what hosts and containers are allowed to be. Whether they have public addresses is not
//! judged here: the rules of reachability follow every path, also those that go by an address.

use std::collections::HashSet;

use super::{Facts, How, Report, Rule};
use crate::{
    estate::{Place, Resource},
    value::Value,
};

pub(super) fn rules() -> Vec<Rule> {
    vec![
        Rule {
            id: "C01",
            title: "Hosts ask for metadata tokens one hop away, have encrypted disks and no key pair",
            pci: &["2.2.1", "2.2.6", "3.5.1", "8.3.1"],
            how: How::Check(hosts),
        },
        Rule {
            id: "C02",
            title: "Containers run without root, on a read-only file system, without secrets in their \
                    environment; a deployment that fails is rolled back",
            pci: &["2.2.1", "2.2.6", "6.5.1", "8.6.2", "10.2.1"],
            how: How::Check(containers),
        },
    ]
}

/// Something that makes hosts, and where its data begins.
struct Host<'a> {
    place: Place,
    resource: &'a Resource,
    /// What stands before the names of properties: `LaunchTemplateData.`.
    before: &'static str,
}

impl Host<'_> {
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.before)
    }

    fn get(&self, path: &str) -> Option<&Value> {
        self.resource.get(&self.path(path))
    }
}

fn hosts(facts: &Facts<'_>, report: &mut Report) {
    let estate = facts.estate;
    for (place, _) in estate.of("AWS::AutoScaling::LaunchConfiguration") {
        report.add(facts, place, "", "is a launch configuration, which AWS has given up");
    }
    let container_hosts = container_hosts(facts);
    let templates = estate.of("AWS::EC2::LaunchTemplate").map(|(place, resource)| Host {
        place,
        resource,
        before: "LaunchTemplateData.",
    });
    // What an instance takes from a launch template is judged there.
    let instances = estate
        .of("AWS::EC2::Instance")
        .filter(|(_, r)| r.get("LaunchTemplate").is_none())
        .map(|(place, resource)| Host { place, resource, before: "" });
    let mut any = false;
    for host in templates.chain(instances) {
        any = true;
        self::host(facts, report, &host, container_hosts.contains(host.resource.id.as_str()));
    }
    for (place, group) in estate.of("AWS::AutoScaling::AutoScalingGroup") {
        if launch_template(group).and_then(|id| estate.find(id)).is_none() {
            let what = "starts hosts from no launch template of the environment";
            report.add(facts, place, "LaunchTemplate", what);
        }
    }
    if !any && estate.parameter("OriginKind") == Some("ec2") {
        nothing(facts, report, "no launch template is there, though origins are EC2 hosts");
    }
}

/// A rule that has nothing to look at where the product needs it is broken.
fn nothing(facts: &Facts<'_>, report: &mut Report, what: &str) {
    if let Some(value) = facts.estate.parameters.get("OriginKind") {
        report.at(&value.at, "OriginKind", what);
    }
}

/// The launch template's id that an Auto Scaling group names.
fn launch_template(group: &Resource) -> Option<&str> {
    const MIXED: &str =
        "MixedInstancesPolicy.LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId";
    group.str("LaunchTemplate.LaunchTemplateId").or_else(|| group.str(MIXED))
}

/// Launch templates of hosts that run containers: those of capacity providers' groups. A container is one
/// hop further from the metadata service.
fn container_hosts<'a>(facts: &Facts<'a>) -> HashSet<&'a str> {
    let groups = facts.estate.of("AWS::ECS::CapacityProvider").filter_map(|(_, provider)| {
        facts.estate.find(provider.str("AutoScalingGroupProvider.AutoScalingGroupArn")?)
    });
    groups.filter_map(launch_template).collect()
}

fn host(facts: &Facts<'_>, report: &mut Report, host: &Host<'_>, runs_containers: bool) {
    let mut say = |path: &str, what: String| {
        report.add(facts, host.place, &host.path(path), what);
    };
    let endpoint_off = host.get("MetadataOptions.HttpEndpoint").is_some_and(|v| v.is("disabled"));
    if !endpoint_off {
        if !host.get("MetadataOptions.HttpTokens").is_some_and(|v| v.is("required")) {
            say("MetadataOptions.HttpTokens", "answers metadata requests without a token".into());
        }
        let most = if runs_containers { 2 } else { 1 };
        let hops = host.get("MetadataOptions.HttpPutResponseHopLimit").and_then(Value::as_int);
        if !hops.is_some_and(|hops| (1..=most).contains(&hops)) {
            let has = hops.map_or_else(|| "no stated limit".to_owned(), |n| format!("{n}"));
            let what = format!("metadata tokens may travel {has} of hops; {most} is the most");
            say("MetadataOptions.HttpPutResponseHopLimit", what);
        }
    }
    if host.get("KeyName").is_some() {
        say("KeyName", "has a key pair: a key that nobody can take back".into());
    }
    let disks = host.get("BlockDeviceMappings").map(Value::items).unwrap_or_default();
    if disks.is_empty() {
        let what = "names no disks, so that the image decides whether they are encrypted";
        say("BlockDeviceMappings", what.into());
    }
    for (i, disk) in disks.iter().enumerate() {
        let Some(ebs) = disk.get("Ebs") else { continue };
        if ebs.get("Encrypted").and_then(Value::as_bool) != Some(true) {
            let path = format!("BlockDeviceMappings.{i}.Ebs.Encrypted");
            // The line of the disk, where the property is missing.
            let path = host.get(&path).map_or_else(|| format!("BlockDeviceMappings.{i}"), |_| path);
            say(&path, "has a disk that is not encrypted".into());
        }
    }
}

fn containers(facts: &Facts<'_>, report: &mut Report) {
    let (mut tasks, mut services) = (0, 0);
    for (place, task) in facts.estate.of("AWS::ECS::TaskDefinition") {
        tasks += 1;
        let list = task.get("ContainerDefinitions").map(Value::items).unwrap_or_default();
        for (i, one) in list.iter().enumerate() {
            container(facts, report, place, &format!("ContainerDefinitions.{i}"), one);
        }
        if list.is_empty() {
            report.add(facts, place, "", "defines no container");
        }
    }
    for (place, service) in facts.estate.of("AWS::ECS::Service") {
        services += 1;
        let breaker = "DeploymentConfiguration.DeploymentCircuitBreaker";
        for (part, what) in [
            ("Enable", "does not stop a deployment that fails"),
            ("Rollback", "does not go back when a deployment fails"),
        ] {
            // CodeDeploy does both by itself.
            let deploys = service.str("DeploymentController.Type").unwrap_or("ECS");
            if deploys == "ECS" && !service.yes(&format!("{breaker}.{part}")) {
                report.add(facts, place, &format!("{breaker}.{part}"), what);
            }
        }
    }
    if facts.estate.parameter("OriginKind") == Some("ecs") && (tasks == 0 || services == 0) {
        nothing(
            facts,
            report,
            "no ECS service with a task is there, though origins are containers",
        );
    }
}

fn container(facts: &Facts<'_>, report: &mut Report, place: Place, path: &str, one: &Value) {
    let name = one.get("Name").and_then(Value::scalar).unwrap_or_else(|| "?".to_owned());
    let mut say = |part: &str, what: String| {
        // Where the property is missing, the container's own line.
        let whole = format!("{path}.{part}");
        let path = if one.path(part).is_some() { whole.as_str() } else { path };
        report.add(facts, place, path, format!("container {name} {what}"));
    };
    let user = one.get("User").and_then(Value::scalar);
    let user = user.as_deref().map(|u| u.split(':').next().unwrap_or_default());
    match user {
        None => say("User", "runs as whom the image says, which may be root".into()),
        Some("root" | "0" | "") => say("User", "runs as root".into()),
        Some(_) => {}
    }
    if one.get("ReadonlyRootFilesystem").and_then(Value::as_bool) != Some(true) {
        say("ReadonlyRootFilesystem", "can write to its own image".into());
    }
    if one.get("Privileged").and_then(Value::as_bool) == Some(true) {
        say("Privileged", "is privileged".into());
    }
    if one.path("LinuxParameters.Capabilities.Add").is_some_and(|c| !c.items().is_empty()) {
        say("LinuxParameters.Capabilities.Add", "is given capabilities of root".into());
    }
    let driver = one.path("LogConfiguration.LogDriver").and_then(Value::as_str);
    let group = one.path("LogConfiguration.Options.awslogs-group").and_then(Value::as_str);
    match (driver, group) {
        (Some("awslogs"), Some(group))
            if facts.estate.find_of("AWS::Logs::LogGroup", group).is_none() =>
        {
            let what = format!("logs to {group}, which is no log group of the environment");
            say("LogConfiguration.Options.awslogs-group", what);
        }
        (Some("awslogs"), Some(_)) | (Some("awsfirelens"), _) => {}
        _ => say("LogConfiguration", "keeps its logs to itself".into()),
    }
    let environment = one.get("Environment").map(Value::items).unwrap_or_default();
    for (i, variable) in environment.iter().enumerate() {
        let variable = variable.get("Name").and_then(Value::as_str).unwrap_or_default();
        if is_secret_name(variable) {
            let what = format!("has the secret {variable} in its environment; use Secrets");
            say(&format!("Environment.{i}"), what);
        }
    }
}

/// Whether a variable's name says that its value is a secret.
fn is_secret_name(name: &str) -> bool {
    const WORDS: &[&str] = &["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "PRIVATEKEY"];
    let upper = name.to_ascii_uppercase();
    let plain = upper.replace(['_', '-'], "");
    // The name or the ARN of a secret is none.
    let points = ["ARN", "NAME", "ID", "PATH", "FILE", "URL"]
        .iter()
        .any(|end| upper.strip_suffix(end).is_some_and(|before| before.ends_with(['_', '-'])));
    !points && WORDS.iter().any(|word| plain.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::{found, only_these};

    const HOST: &str = "
Resources:
  T:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        MetadataOptions: { HttpTokens: required, HttpPutResponseHopLimit: 1 }
        BlockDeviceMappings: [{ DeviceName: /dev/xvda, Ebs: { Encrypted: true } }]
  G:
    Type: AWS::AutoScaling::AutoScalingGroup
    Properties:
      LaunchTemplate: { LaunchTemplateId: !Ref T, Version: '1' }
";

    #[test]
    fn hosts_are_held_to_their_rule() {
        only_these(
            rules,
            "C01",
            HOST,
            &[
                ("HttpTokens: required", "HttpTokens: optional", "7 t.T: answers metadata"),
                ("HttpTokens: required, ", "", "t.T: answers metadata"),
                ("HopLimit: 1", "HopLimit: 2", "travel 2"),
                ("Encrypted: true", "Encrypted: false", "8 t.T: has a disk"),
                ("Encrypted: true", "VolumeType: gp3", "t.T: has a disk"),
                ("BlockDeviceMappings: [{", "Other: [{", "names no disks"),
                ("        Meta", "        KeyName: admin\n        Meta", "7 t.T: has a key pair"),
                ("!Ref T, ", "lt-0123456789abcdef0, ", "no launch template of the environment"),
            ],
        );
        assert!(found(rules(), "C01", "Resources: {}")[0].contains("no launch template is there"));
    }

    #[test]
    fn a_host_of_containers_may_have_one_hop_more() {
        let provider = "  P: { Type: AWS::ECS::CapacityProvider, Properties: { AutoScalingGroupProvider: { AutoScalingGroupArn: !Ref G } } }\n";
        let with = |hops| format!("{}{provider}", HOST.replace("HopLimit: 1", hops));
        assert_eq!(found(rules(), "C01", &with("HopLimit: 2")), Vec::<String>::new());
        assert_eq!(found(rules(), "C01", &with("HopLimit: 3")).len(), 1);
    }

    const SERVICE: &str = "
#= OriginKind: ecs
Resources:
  L: { Type: AWS::Logs::LogGroup }
  T:
    Type: AWS::ECS::TaskDefinition
    Properties:
      ContainerDefinitions:
        - Name: web
          User: '1000:1000'
          ReadonlyRootFilesystem: true
          Environment: [{ Name: SECRET_ARN, Value: a }]
          LogConfiguration: { LogDriver: awslogs, Options: { awslogs-group: !Ref L } }
  S:
    Type: AWS::ECS::Service
    Properties:
      DeploymentConfiguration: { DeploymentCircuitBreaker: { Enable: true, Rollback: true } }
";

    #[test]
    fn containers_are_held_to_their_rule() {
        only_these(
            rules,
            "C02",
            SERVICE,
            &[
                ("User: '1000:1000'", "User: '0:1000'", "9 t.T: container web runs as root"),
                ("User: '1000:1000'", "Image: a", "t.T: container web runs as whom"),
                ("ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false", "write to its"),
                ("User:", "Privileged: true\n          User:", "is privileged"),
                ("SECRET_ARN", "DB_PASSWORD", "the secret DB_PASSWORD"),
                ("awslogs-group: !Ref L", "awslogs-group: other", "no log group of the env"),
                ("LogDriver: awslogs", "LogDriver: json-file", "keeps its logs to itself"),
                ("Rollback: true", "Rollback: false", "does not go back"),
            ],
        );
        let says = found(rules(), "C02", "#= OriginKind: ecs\nResources: {}");
        assert!(says[0].contains("no ECS service"), "{says:?}");
    }
}
