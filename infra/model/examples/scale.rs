//! How long loading, rendering and checking take, as projects grow: made-up ones of 5 to 50 stacks with 100
//! resources each, and the project's own. Prints a Markdown table. Run by `cargo xtask bench infra`.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use palisade_infra_model::{Project, net::Network, render, rules};

/// Stacks of the made-up projects.
const SIZES: [usize; 4] = [5, 10, 20, 50];
/// Sets of five resources in each stack but the first.
const SETS: usize = 20;
/// Rounds of which the fastest counts: what others do on the machine only adds.
const ROUNDS: usize = 5;

type Failed = Box<dyn std::error::Error>;

fn main() -> Result<(), Failed> {
    let own = std::env::args_os().nth(1).ok_or("usage: scale DIR")?;
    let mut table = String::from(
        "| Project | Stacks | Resources | Load | Render | Network | Check, all rules |\n|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for size in SIZES {
        let dir =
            std::env::temp_dir().join(format!("palisade-scale-{}-{size}", std::process::id()));
        let made = make(&dir, size).and_then(|()| measure(&dir, "e", "made up", &mut table));
        fs::remove_dir_all(&dir).ok();
        made?;
    }
    let own = Path::new(&own);
    let project = Project::load(own)?;
    for env in project.environments.keys() {
        measure(own, env, &format!("own, {env}"), &mut table)?;
    }
    std::io::stdout().lock().write_all(table.as_bytes())?;
    Ok(())
}

fn measure(dir: &Path, env: &str, name: &str, table: &mut String) -> Result<(), Failed> {
    let (load, project) = fastest(|| Project::load(dir))?;
    let environment = project.environments.get(env).ok_or("no such environment")?;
    let (rendering, estate) = fastest(|| render(&project, environment))?;
    let (network, _) = fastest(|| Ok::<_, Failed>(Network::of(&estate)))?;
    let (checking, _) = fastest(|| Ok::<_, Failed>(rules::check(&project, &estate)))?;
    let (stacks, resources) = (estate.stacks.len(), estate.all().count());
    let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
    writeln!(
        table,
        "| {name} | {stacks} | {resources} | {} | {} | {} | {} |",
        ms(load),
        ms(rendering),
        ms(network),
        ms(checking)
    )?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn fastest<T, E: Into<Failed>>(
    mut work: impl FnMut() -> Result<T, E>,
) -> Result<(Duration, T), Failed> {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let made = work().map_err(Into::into)?;
        let took = start.elapsed();
        if best.as_ref().is_none_or(|(b, _)| took < *b) {
            best = Some((took, made));
        }
    }
    best.ok_or_else(|| "no round".into())
}

#[expect(clippy::disallowed_methods, reason = "made-up sources, in a directory of their own")]
fn make(dir: &Path, stacks: usize) -> Result<(), Failed> {
    fs::create_dir_all(dir.join("params"))?;
    fs::create_dir_all(dir.join("templates"))?;
    let params = "project: made\nenv: e\nregion: eu-west-1\naccount: '111122223333'\n";
    fs::write(dir.join("params/e.yaml"), params)?;
    let mut list = String::from("stacks:\n  - { name: s0, template: t0.yaml }\n");
    fs::write(dir.join("templates/t0.yaml"), first())?;
    for stack in 1..stacks {
        writeln!(list, "  - {{ name: s{stack}, template: t{stack}.yaml }}")?;
        fs::write(dir.join(format!("templates/t{stack}.yaml")), later(stack)?)?;
    }
    fs::write(dir.join("stacks.yaml"), list)?;
    Ok(())
}

const PARAMETERS: &str = "Parameters:\n  Project: { Type: String, AllowedPattern: '[a-z]+' }\n  Env: { Type: String }\nResources:\n";

/// A VPC with a way out.
fn first() -> String {
    format!(
        "{PARAMETERS}  Vpc: {{ Type: AWS::EC2::VPC, Properties: {{ CidrBlock: 10.0.0.0/16 }} }}
  Gateway: {{ Type: AWS::EC2::InternetGateway }}
  Attachment: {{ Type: AWS::EC2::VPCGatewayAttachment, Properties: {{ VpcId: !Ref Vpc, InternetGatewayId: !Ref Gateway }} }}
  Public: {{ Type: AWS::EC2::Subnet, Properties: {{ VpcId: !Ref Vpc, CidrBlock: 10.0.0.0/24, AvailabilityZone: a }} }}
  Private: {{ Type: AWS::EC2::Subnet, Properties: {{ VpcId: !Ref Vpc, CidrBlock: 10.0.16.0/20, AvailabilityZone: a }} }}
  PublicTable: {{ Type: AWS::EC2::RouteTable, Properties: {{ VpcId: !Ref Vpc }} }}
  Table: {{ Type: AWS::EC2::RouteTable, Properties: {{ VpcId: !Ref Vpc }} }}
  Out: {{ Type: AWS::EC2::Route, Properties: {{ RouteTableId: !Ref PublicTable, DestinationCidrBlock: 0.0.0.0/0, GatewayId: !Ref Gateway }} }}
  ByNat: {{ Type: AWS::EC2::Route, Properties: {{ RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: !Ref Nat }} }}
  Nat: {{ Type: AWS::EC2::NatGateway, Properties: {{ SubnetId: !Ref Public }} }}
  OfPublic: {{ Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {{ SubnetId: !Ref Public, RouteTableId: !Ref PublicTable }} }}
  OfPrivate: {{ Type: AWS::EC2::SubnetRouteTableAssociation, Properties: {{ SubnetId: !Ref Private, RouteTableId: !Ref Table }} }}
  Group: {{ Type: AWS::EC2::SecurityGroup, Properties: {{ VpcId: !Ref Vpc, SecurityGroupEgress: [{{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }}] }} }}
Outputs:
  Vpc: {{ Value: !Ref Vpc, Export: {{ Name: !Sub '${{Project}}-${{Env}}-s0-Vpc' }} }}
  Private: {{ Value: !Ref Private, Export: {{ Name: !Sub '${{Project}}-${{Env}}-s0-Private' }} }}
  Group: {{ Value: !Ref Group, Export: {{ Name: !Sub '${{Project}}-${{Env}}-s0-Group' }} }}
"
    )
}

/// Hosts that admit those of the stack before.
fn later(stack: usize) -> Result<String, Failed> {
    let import = |of: usize, what: &str| {
        format!("!ImportValue {{ 'Fn::Sub': '${{Project}}-${{Env}}-s{of}-{what}' }}")
    };
    let (vpc, subnet, before) =
        (import(0, "Vpc"), import(0, "Private"), import(stack - 1, "Group"));
    let mut text = PARAMETERS.to_owned();
    for i in 0..SETS {
        let logical = if i == 0 { "Group".to_owned() } else { format!("Group{i}") };
        writeln!(
            text,
            "  {logical}: {{ Type: AWS::EC2::SecurityGroup, Properties: {{ VpcId: {vpc}, SecurityGroupEgress: [{{ IpProtocol: tcp, FromPort: 443, ToPort: 443, CidrIp: 0.0.0.0/0 }}] }} }}"
        )?;
        writeln!(
            text,
            "  In{i}: {{ Type: AWS::EC2::SecurityGroupIngress, Properties: {{ GroupId: !Ref {logical}, IpProtocol: tcp, FromPort: 80, ToPort: 80, SourceSecurityGroupId: {before} }} }}"
        )?;
        writeln!(
            text,
            "  Out{i}: {{ Type: AWS::EC2::SecurityGroupEgress, Properties: {{ GroupId: !Ref {logical}, IpProtocol: tcp, FromPort: 80, ToPort: 80, DestinationSecurityGroupId: {before} }} }}"
        )?;
        writeln!(
            text,
            "  Host{i}: {{ Type: AWS::EC2::Instance, Properties: {{ SubnetId: {subnet}, SecurityGroupIds: [!Ref {logical}] }} }}"
        )?;
        writeln!(
            text,
            "  Log{i}: {{ Type: AWS::Logs::LogGroup, Properties: {{ LogGroupName: !Sub '/${{Project}}/${{AWS::StackName}}/{i}', RetentionInDays: 400 }} }}"
        )?;
    }
    writeln!(
        text,
        "Outputs:\n  Group: {{ Value: !Ref Group, Export: {{ Name: !Sub '${{Project}}-${{Env}}-s{stack}-Group' }} }}"
    )?;
    Ok(text)
}
