//! Plan, apply and destroy of a small project against ministack: order, both regions, idempotency,
//! refusals, and runs that are cut off.

mod common;

use common::{Lab, emulator, wait_until};

const STACKS: [(&str, &str); 3] = [
    ("eu-west-1", "small-dev-network"),
    ("us-east-1", "small-dev-wall"),
    ("eu-west-1", "small-dev-app"),
];

fn lab() -> Option<(emulator::Emulator, Lab)> {
    let emulator = emulator::start()?;
    let lab = Lab::of_fixture("small", &emulator.endpoint());
    Some((emulator, lab))
}

fn stack(emulator: &emulator::Emulator, region: &str, name: &str) -> String {
    let form = "Action=DescribeStacks&Version=2010-05-15";
    let all = emulator.query("cloudformation", region, form);
    let member = all.split("<StackName>").find(|m| m.starts_with(&format!("{name}<")));
    member.unwrap_or_default().to_owned()
}

#[test]
fn everything_is_planned_made_left_alone_changed_and_deleted() {
    let Some((emulator, lab)) = lab() else { return };
    let plan = lab.expect(0, &["plan", "dev"]);
    assert!(plan.out.contains("WallArn: known after apply"), "{}", plan.out);
    assert!(plan.out.contains("8 to add, 0 to change (0 replaced), 0 to remove"), "{}", plan.out);
    for (region, name) in STACKS {
        assert_eq!(stack(&emulator, region, name), "", "planning left {name}");
    }

    let first = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(first.out.contains("applied: 3 of 3 stacks changed"), "{}", first.out);
    assert!(first.err.contains("network: Vpc (AWS::EC2::VPC) created"), "{}", first.err);
    for (region, name) in STACKS {
        assert!(stack(&emulator, region, name).contains("CREATE_COMPLETE"), "{name}");
    }
    // What the feed carried from one region to the other.
    let wall = emulator.json(
        "ssm",
        "eu-west-1",
        "AmazonSSM.GetParameter",
        r#"{"Name":"/small/dev/wall"}"#,
    );
    assert!(wall.contains("arn:aws:sns:us-east-1:"), "{wall}");

    let second = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(second.out.contains("no changes: network, wall, app"), "{}", second.out);
    assert!(second.out.contains("applied: 0 of 3"), "{}", second.out);

    lab.edit(
        "templates/network.yaml",
        "FromPort: 443, ToPort: 443",
        "FromPort: 8443, ToPort: 8443",
    );
    let plan = lab.expect(0, &["plan", "dev", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!(plan[0]["changes"][0]["resource"], "Group", "{plan}");
    assert_eq!((&plan[0]["state"], &plan[2]["state"]), (&"changed".into(), &"unchanged".into()));
    let third = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(third.out.contains("applied: 1 of 3"), "{}", third.out);
    let form = "Action=DescribeSecurityGroups&Version=2016-11-15";
    let groups = emulator.query("ec2", "eu-west-1", form);
    assert!(groups.contains("<fromPort>8443</fromPort>") && !groups.contains(">443<"), "{groups}");

    let refused = lab.expect(5, &["destroy", "dev", "--yes"]);
    assert!(refused.err.contains("Journal (AWS::Logs::LogGroup"), "{}", refused.err);
    assert!(refused.err.contains("hint: nothing was deleted"), "{}", refused.err);
    assert!(stack(&emulator, "eu-west-1", "small-dev-network").contains("UPDATE_COMPLETE"));
    let gone = lab.expect(0, &["destroy", "dev", "--yes", "--allow-data-loss", "app"]);
    assert!(gone.out.contains("destroyed: 3 stacks"), "{}", gone.out);
    assert!(gone.out.contains("app leaves: Archive (AWS::S3::Bucket"), "{}", gone.out);
    for (region, name) in STACKS {
        assert_eq!(stack(&emulator, region, name), "", "{name} is left");
    }
    assert_eq!(lab.expect(0, &["destroy", "dev", "--yes"]).out, "nothing to destroy\n");
}

#[test]
fn a_resource_with_data_that_vanished_from_its_template_is_not_removed() {
    let Some((emulator, lab)) = lab() else { return };
    lab.expect(0, &["apply", "dev", "--yes"]);
    lab.edit("templates/app.yaml", "AWS::Logs::LogGroup", "AWS::SNS::Topic");
    lab.edit("templates/app.yaml", "    Properties:\n      RetentionInDays: !Ref Retention\n", "");
    lab.edit("templates/app.yaml", "  Retention: { Type: Number, Default: 7 }\n", "");
    lab.edit("templates/app.yaml", "  Journal:", "  Diary:");
    for params in ["params/dev.yaml", "params/prod.yaml"] {
        lab.edit(params, "  Retention: \"30\"\n", "");
    }
    for verb in ["plan", "apply"] {
        let words = if verb == "plan" { vec![verb, "dev"] } else { vec![verb, "dev", "--yes"] };
        let refused = lab.expect(5, &words);
        assert!(
            refused.err.contains("app.Journal (AWS::Logs::LogGroup) holds data"),
            "{refused:?}"
        );
        assert!(refused.err.contains("--allow-data-loss app.Journal"), "{refused:?}");
    }
    assert!(stack(&emulator, "eu-west-1", "small-dev-app").contains("CREATE_COMPLETE"));
    lab.expect(2, &["apply", "dev", "--yes", "--allow-data-loss", "app"]);
    let journals = || emulator.json("logs", "eu-west-1", "Logs_20140328.DescribeLogGroups", "{}");
    assert!(journals().contains("Journal"));
    lab.expect(0, &["apply", "dev", "--yes", "--allow-data-loss", "app.Journal"]);
    assert!(!journals().contains("Journal"));
}

#[test]
fn data_that_may_be_replaced_is_changed_only_when_it_is_named() {
    let Some((emulator, lab)) = lab() else { return };
    lab.expect(0, &["apply", "dev", "--yes"]);
    lab.edit("params/dev.yaml", "Retention: \"30\"", "Retention: \"90\"");
    let refused = lab.expect(5, &["apply", "dev", "--yes"]);
    assert!(refused.err.contains("replaced by an empty one, perhaps"), "{}", refused.err);
    assert!(refused.out.contains("RetentionInDays (by Retention)"), "{}", refused.out);
    lab.expect(0, &["apply", "dev", "--yes", "--allow-data-loss", "app.Journal"]);
    let groups = emulator.json("logs", "eu-west-1", "Logs_20140328.DescribeLogGroups", "{}");
    assert!(groups.replace(' ', "").contains("\"retentionInDays\":90"), "{groups}");
}

#[test]
fn what_fails_names_the_cause_with_its_line_and_the_next_run_makes_it_anew() {
    let Some((emulator, lab)) = lab() else { return };
    // An export that nobody has: the model would say so, so it is the real one that goes.
    lab.expect(0, &["apply", "dev", "--yes", "--stack", "network,wall"]);
    let alone = lab.expect(0, &["destroy", "dev", "--yes", "--stack", "network"]);
    assert!(alone.out.contains("destroyed: 1 stacks"), "{}", alone.out);
    let failed = lab.expect(1, &["apply", "dev", "--yes", "--stack", "app"]);
    assert!(failed.err.contains("small-dev-network-GroupId"), "{}", failed.err);
    assert!(stack(&emulator, "eu-west-1", "small-dev-app").contains("ROLLBACK_COMPLETE"));
    let again = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(again.err.contains("deleted, to be made anew"), "{}", again.err);
    assert!(again.out.contains("applied: 2 of 3"), "{}", again.out);
}

#[test]
fn a_run_that_was_killed_is_continued_by_the_next_one() {
    let Some((emulator, lab)) = lab() else { return };
    let mut child = lab.start(&["apply", "dev", "--yes"]);
    wait_until("the first stack", || {
        !stack(&emulator, "eu-west-1", "small-dev-network").is_empty()
            || !stack(&emulator, "us-east-1", "small-dev-wall").is_empty()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    lab.expect(0, &["apply", "dev", "--yes"]);
    for (region, name) in STACKS {
        assert!(stack(&emulator, region, name).contains("_COMPLETE"), "{name}");
    }
    assert!(lab.expect(0, &["plan", "dev"]).out.contains("nothing to change"));
}

#[test]
fn production_is_protected_and_unprotected_only_when_asked() {
    let Some((emulator, lab)) = lab() else { return };
    let made = lab.expect(0, &["apply", "prod", "--yes"]);
    assert!(made.err.contains("app: protected against deletion"), "{}", made.err);
    let protected = |name| {
        stack(&emulator, "eu-west-1", name)
            .contains("<EnableTerminationProtection>true</EnableTerminationProtection>")
    };
    assert!(protected("small-prod-app") && !protected("small-prod-network"));
    let words = ["destroy", "prod", "--yes", "--allow-data-loss", "app"];
    let refused = lab.expect(5, &words);
    assert!(refused.err.contains("app: it is protected against deletion"), "{}", refused.err);
    assert!(stack(&emulator, "us-east-1", "small-prod-wall").contains("CREATE_COMPLETE"));
    lab.expect(0, &[&words[..], &["--disable-termination-protection"]].concat());
}

#[test]
fn a_stack_that_the_list_no_longer_has_is_named_and_deleted_first() {
    let Some((emulator, lab)) = lab() else { return };
    lab.expect(0, &["apply", "dev", "--yes"]);
    lab.edit("stacks.yaml", "    feeds:", "    when: { Production: [\"true\"] }\n    feeds:");
    let plan = lab.expect(0, &["plan", "dev"]);
    assert!(plan.err.contains("small-dev-app in eu-west-1 is in no list any more"), "{}", plan.err);
    // It imports what the network exports, so the order counts.
    lab.expect(0, &["destroy", "dev", "--yes", "--allow-data-loss", "app"]);
    assert_eq!(stack(&emulator, "eu-west-1", "small-dev-app"), "");
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_done() {
    let Some((emulator, lab)) = lab() else { return };
    let refused = lab.expect(2, &["apply", "dev"]);
    assert!(refused.err.contains("hint: look at the plan, then give --yes"), "{}", refused.err);
    assert_eq!(stack(&emulator, "eu-west-1", "small-dev-network"), "");
}
