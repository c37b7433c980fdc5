//! Small projects, rendered.

use std::{fs, path::Path};

use super::*;

#[expect(clippy::disallowed_methods, reason = "files of a test, in a directory of its own")]
fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let params = "project: pal\nenv: dev\nregion: eu-west-1\naccount: '111122223333'\n";
    for (name, text) in [("params/dev.yaml", params)].iter().chain(files) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn rendered(dir: &Path) -> Result<Estate, String> {
    let project = Project::load(dir).map_err(|e| e.to_string())?;
    render(&project, &project.environments["dev"]).map_err(|e| e.to_string())
}

const NETWORK: &str = "
Parameters:
  Project: { Type: String }
  Env: { Type: String }
  Cidr: { Type: String, Default: 10.0.0.0/16, AllowedPattern: '[0-9./]+' }
Conditions:
  Big: !Equals [!Ref Env, prod]
Resources:
  Vpc: { Type: AWS::EC2::VPC, Properties: { CidrBlock: !Ref Cidr } }
  A:
    Type: AWS::EC2::Subnet
    Properties:
      VpcId: !Ref Vpc
      CidrBlock: !Select [1, !Cidr [!Ref Cidr, 4, 12]]
      AvailabilityZone: !Select [0, !GetAZs '']
      MapPublicIpOnLaunch: !If [Big, true, !Ref AWS::NoValue]
  Extra: { Type: AWS::EC2::VPC, Condition: Big, Properties: { CidrBlock: 10.1.0.0/16 } }
Outputs:
  VpcId: { Value: !Ref Vpc, Export: { Name: !Sub '${Project}-${Env}-network-VpcId' } }
  Subnets: { Value: !Join [',', [!Ref A, !Ref A]], Export: { Name: !Sub '${Project}-${Env}-network-Subnets' } }
";

const STACKS: &str = "
stacks:
  - { name: app, template: app.yaml, feeds: { Acl: edge.Acl } }
  - { name: network, template: network.yaml }
  - { name: edge, template: edge.yaml, region: global }
";

const APP: &str = "
Parameters:
  Project: { Type: String }
  Env: { Type: String }
  Acl: { Type: String }
Resources:
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties:
      VpcId: !ImportValue { 'Fn::Sub': '${Project}-${Env}-network-VpcId' }
      GroupDescription: !Sub ['${Acl} ${x} ${!kept} ${AWS::Region}', { x: !Select [1, !Split ['-', a-b-c]] }]
      Tags: [{ Key: Arn, Value: !GetAtt Role.Arn }]
  Role: { Type: AWS::IAM::Role, Properties: { RoleName: !Sub '${Project}-role' } }
";

const EDGE: &str = "
Resources:
  Acl: { Type: AWS::WAFv2::WebACL, Properties: { Name: acl, Scope: CLOUDFRONT } }
Outputs:
  Acl: { Value: !GetAtt Acl.Arn }
";

fn files<'a>(app: &'a str, network: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("stacks.yaml", STACKS),
        ("templates/app.yaml", app),
        ("templates/network.yaml", network),
        ("templates/edge.yaml", EDGE),
    ]
}

#[test]
fn stacks_come_after_what_they_need_and_functions_are_carried_out() {
    let dir = project(&files(APP, NETWORK));
    let estate = rendered(dir.path()).unwrap();
    let names: Vec<_> = estate.stacks.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["edge", "network", "app"]);
    assert_eq!(estate.stack("app").unwrap().needs, [0, 1]);
    assert_eq!(estate.stack("edge").unwrap().region, "us-east-1");
    let subnet = &estate.stack("network").unwrap().resources[1];
    assert_eq!(
        subnet.properties.to_json(),
        serde_json::json!({
            "VpcId": estate.stack("network").unwrap().resources[0].id,
            "CidrBlock": "10.0.16.0/20",
            "AvailabilityZone": "eu-west-1a",
        })
    );
    let (_, group) = estate.of("AWS::EC2::SecurityGroup").next().unwrap();
    let vpc = estate.find(group.str("VpcId").unwrap()).unwrap();
    assert_eq!(
        (vpc.logical.as_str(), vpc.at.to_string()),
        ("Vpc", "templates/network.yaml:9".into())
    );
    let description = group.str("GroupDescription").unwrap();
    assert!(
        description.starts_with("arn:aws:wafv2:us-east-1:111122223333:global/webacl/acl/"),
        "{description}"
    );
    assert!(description.ends_with(" b ${kept} eu-west-1"), "{description}");
    assert_eq!(group.str("Tags.0.Value"), Some("arn:aws:iam::111122223333:role/pal-role"));
    assert_eq!(estate.find("arn:aws:iam::111122223333:role/pal-role").unwrap().logical, "Role");
    assert_eq!(
        rendered(dir.path()).unwrap().stacks[1].resources[0].id,
        estate.stacks[1].resources[0].id
    );
}

#[test]
fn mistakes_say_where_they_are() {
    let says = |app: &str, network: &str, what: &str| {
        let dir = project(&files(app, network));
        let e = rendered(dir.path()).unwrap_err();
        assert!(e.contains(what), "{what:?} is not in:\n{e}");
    };
    says(
        &APP.replace("network-VpcId", "network-Vpc"),
        NETWORK,
        "templates/app.yaml:10: nothing exports pal-dev-network-Vpc in eu-west-1",
    );
    says(
        &APP.replace("!GetAtt Role.Arn", "!Ref Rule"),
        NETWORK,
        "templates/app.yaml:12: nothing is called Rule",
    );
    says(
        APP,
        &NETWORK.replace("!Ref A]]", "!Ref Extra]]"),
        "Extra does not exist here: Big is false",
    );
    says(APP, &NETWORK.replace("!Select [1,", "!Select [9,"), "no item 9 in a list of 4");
    says(
        APP,
        &NETWORK.replace("Default: 10.0.0.0/16", "Default: ten"),
        "Cidr: \"ten\" does not match",
    );
    says(
        &APP.replace("Resources:", "Transform: x\nResources:"),
        NETWORK,
        "the section Transform cannot be rendered",
    );
    says(
        APP,
        &NETWORK.replace("!Equals [!Ref Env, prod]", "!Not [{ Condition: Big }]"),
        "condition Big needs itself",
    );
}

#[test]
fn a_pattern_is_for_each_item_of_a_list() {
    let network = NETWORK.replace(
        "  Cidr: {",
        "  Lands: { Type: CommaDelimitedList, Default: 'AT, CH', AllowedPattern: '^[A-Z]{2}$' }\n  Cidr: {",
    );
    let network =
        network.replace("CidrBlock: !Ref Cidr }", "CidrBlock: !Ref Cidr, Lands: !Ref Lands }");
    let dir = project(&files(APP, &network));
    let estate = rendered(dir.path()).unwrap();
    let vpc = &estate.stack("network").unwrap().resources[0];
    assert_eq!(vpc.get("Lands").unwrap().to_json(), serde_json::json!(["AT", "CH"]));
    let dir = project(&files(APP, &network.replace("AT, CH", "AT, Swiss")));
    let e = rendered(dir.path()).unwrap_err();
    assert!(e.contains("Lands") && e.contains("does not match"), "{e}");
}

#[test]
fn a_circle_of_stacks_is_found() {
    let network = NETWORK.replace(
        "CidrBlock: !Ref Cidr",
        "CidrBlock: !Ref Cidr, Tags: [{ Key: a, Value: !ImportValue pal-dev-app-X }]",
    );
    let app =
        format!("{APP}Outputs:\n  X: {{ Value: !Ref Group, Export: {{ Name: pal-dev-app-X }} }}\n");
    let dir = project(&files(&app, &network));
    let e = rendered(dir.path()).unwrap_err();
    assert!(e.contains("needs itself, by way of this"), "{e}");
}

#[test]
fn a_parameter_that_nobody_reads_is_a_mistake() {
    let params = "project: pal\nenv: dev\nregion: eu-west-1\naccount: '1'\nparameters: { Cdir: 10.0.0.0/8 }\n";
    let mut all = files(APP, NETWORK);
    all.push(("params/dev.yaml", params));
    let dir = project(&all);
    let e = rendered(dir.path()).unwrap_err();
    assert_eq!(e, "params/dev.yaml:5: no template has a parameter Cdir");
}

#[test]
fn what_lives_in_a_file_of_its_own_is_put_in() {
    let network = NETWORK.replace("{ CidrBlock: !Ref Cidr }", "{ CidrBlock: !Ref Cidr, Doc: { 'Palisade::Inline': documents/d.json }, Code: { 'Palisade::Inline': functions/f.py } }");
    let mut all = files(APP, &network);
    all.push(("documents/d.json", "{\n \"a\": [1, true]\n}"));
    all.push(("functions/f.py", "print('${x}')\n"));
    let dir = project(&all);
    let estate = rendered(dir.path()).unwrap();
    let vpc = &estate.stack("network").unwrap().resources[0];
    assert_eq!(vpc.get("Doc").unwrap().to_json(), serde_json::json!({"a": [1, true]}));
    assert_eq!(vpc.at("Doc.a").to_string(), "documents/d.json:2");
    assert_eq!(vpc.str("Code"), Some("print('${x}')\n"));
    let body = Project::load(dir.path()).unwrap().templates[1].body();
    assert!(body.contains(r#""Doc":{"a":[1,true]}"#) && !body.contains("Palisade"), "{body}");
}

#[test]
fn an_environment_that_breaks_a_rule_of_a_template_is_a_mistake() {
    let ruled = |condition: &str, wanted: &str| {
        let rules = format!(
            "\nRules:\n  Together:\n    RuleCondition: !Equals [!Ref Env, {condition}]\n    Assertions:\n      \
             - Assert: !Equals [!Ref Cidr, {wanted}]\n        AssertDescription: they go together\n"
        );
        let network = format!("# a comment\n{}{rules}", NETWORK.trim_start());
        let stacks = "stacks: [{ name: network, template: network.yaml }]";
        let dir = project(&[("stacks.yaml", stacks), ("templates/network.yaml", &network)]);
        rendered(dir.path()).map(|estate| estate.stacks.len())
    };
    assert_eq!(ruled("prod", "10.9.0.0/16"), Ok(1));
    assert_eq!(ruled("dev", "10.0.0.0/16"), Ok(1));
    let broken = ruled("dev", "10.9.0.0/16").unwrap_err();
    assert!(broken.contains("rule Together: they go together"), "{broken}");
}

#[test]
fn what_needs_itself_by_way_of_too_many_is_a_mistake_and_no_crash() {
    let says = |network: &str| {
        let stacks = "stacks: [{ name: network, template: network.yaml }]";
        let dir = project(&[("stacks.yaml", stacks), ("templates/network.yaml", network)]);
        rendered(dir.path()).map(|estate| estate.stacks.len())
    };
    let chained = |count: usize| {
        let mut text = String::from("Conditions:\n  C0: !Equals [a, a]\n");
        for i in 1..count {
            text.push_str(&format!("  C{i}: !Not [{{ Condition: C{} }}]\n", i - 1));
        }
        let last = count - 1;
        format!("{text}Resources:\n  T: {{ Type: AWS::SNS::Topic, Condition: C{last} }}\n")
    };
    assert_eq!(says(&chained(150)), Ok(1));
    let told = says(&chained(20_000)).unwrap_err();
    assert!(told.contains("200 need each other in a row"), "{told}");

    let mut list = String::from("stacks:\n");
    for i in 0..300 {
        let after = if i > 0 { format!(", after: [s{}]", i - 1) } else { String::new() };
        list.push_str(&format!("  - {{ name: s{i}, template: network.yaml{after} }}\n"));
    }
    // The last one first, so that all wait for one another.
    let reversed: String = list
        .lines()
        .skip(1)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .fold(String::from("stacks:\n"), |text, line| text + line + "\n");
    let network = "Resources: { T: { Type: AWS::SNS::Topic } }\n";
    for (stacks, fits) in [(list, true), (reversed, false)] {
        let dir = project(&[("stacks.yaml", &stacks), ("templates/network.yaml", network)]);
        let made = rendered(dir.path());
        assert_eq!(made.is_ok(), fits, "{made:?}");
        if let Err(told) = made {
            assert!(told.contains("200 stacks need each other in a row"), "{told}");
        }
    }
}

#[test]
fn two_outputs_of_which_one_is_there_may_share_a_name() {
    let both = NETWORK.replace(
        "  VpcId: {",
        "  Other: { Condition: Big, Value: !Ref Vpc, Export: { Name: !Sub '${Project}-${Env}-network-VpcId' } }\n  VpcId: {",
    );
    let dir = project(&files(APP, &both));
    assert_eq!(rendered(dir.path()).map(|estate| estate.stacks.len()), Ok(3));
    let twice = both.replace("Condition: Big, Value", "Value");
    let dir = project(&files(APP, &twice));
    let told = rendered(dir.path()).unwrap_err();
    assert!(told.contains("is exported twice"), "{told}");
}
