//! What plan, apply and destroy refuse, survive and say, against a strict fake of CloudFormation.

mod common;

use common::{
    fake::{Stack, change},
    ran,
    small::{APP, NETWORK, WALL, lab, made},
    wait_until,
};

#[test]
fn a_replacement_of_data_on_a_later_page_is_refused_and_nothing_is_carried_out() {
    let (fake, lab) = made();
    let harmless = change("Modify", "GroupName", "AWS::SSM::Parameter", "True");
    for (replacement, words) in [("True", "an empty one"), ("Conditional", "an empty one, perhaps")]
    {
        let loss = change("Modify", "Db", "AWS::RDS::DBCluster", replacement);
        fake.state().changes.insert(APP.into(), vec![vec![harmless.clone(), loss]]);
        for line in [&["plan", "dev"][..], &["apply", "dev", "--yes"]] {
            let refused = lab.expect(5, line);
            let said =
                format!("app.Db (AWS::RDS::DBCluster) holds data and would be replaced by {words}");
            assert!(refused.err.contains(&said), "{}", refused.err);
            assert!(refused.out.contains("Size replaces it"), "{}", refused.out);
        }
    }
    assert_eq!(fake.asked("ExecuteChangeSet"), Vec::<String>::new());
    assert!(fake.state().stacks[APP].sets.is_empty(), "a change set is left");
    lab.expect(0, &["apply", "dev", "--yes", "--allow-data-loss", "app.Db"]);
    assert_eq!(fake.asked("ExecuteChangeSet"), [APP]);
}

#[test]
fn the_very_change_set_that_is_carried_out_is_judged() {
    let (fake, lab) = made();
    let harmless = change("Modify", "GroupName", "AWS::SSM::Parameter", "False");
    let loss = change("Remove", "Journal", "AWS::Logs::LogGroup", "False");
    // Between the plan and the execution, the world changed.
    fake.state().changes.insert(APP.into(), vec![vec![harmless], vec![loss]]);
    let refused = lab.expect(5, &["apply", "dev", "--yes"]);
    assert!(refused.out.contains("change  GroupName"), "{}", refused.out);
    assert!(
        refused.err.contains("app.Journal (AWS::Logs::LogGroup) holds data"),
        "{}",
        refused.err
    );
    assert_eq!(fake.asked("ExecuteChangeSet"), Vec::<String>::new());
    assert!(fake.state().stacks[APP].sets.is_empty());
}

#[test]
fn the_vpc_origin_in_use_is_left_alone_even_by_tags() {
    let (fake, lab) = made();
    let touch = |logical| change("Modify", logical, "AWS::CloudFront::VpcOrigin", "False");
    {
        let mut state = fake.state();
        let wall = state.stacks.get_mut(WALL).unwrap();
        wall.outputs.insert("ActiveOrigin".into(), "A".into());
        state.changes.insert(WALL.into(), vec![vec![touch("VpcOriginA")]]);
    }
    let refused = lab.expect(5, &["apply", "dev", "--yes"]);
    assert!(refused.err.contains("wall.VpcOriginA is the VPC origin in use"), "{}", refused.err);
    assert!(refused.err.contains("hint: change the other VPC origin"), "{}", refused.err);
    fake.state().changes.insert(WALL.into(), vec![vec![touch("VpcOriginB")]]);
    lab.expect(0, &["apply", "dev", "--yes"]);
}

#[test]
fn a_failed_creation_names_its_first_cause_with_file_and_line_and_is_made_anew() {
    let (fake, lab) = lab();
    fake.state().failing.insert("Subnet".into(), "The CIDR is taken".into());
    let failed = lab.expect(1, &["apply", "dev", "--yes"]);
    let line = "infra/templates/network.yaml:11: Subnet (AWS::EC2::Subnet): The CIDR is taken";
    assert!(
        failed.err.contains(&format!("error: network: ROLLBACK_COMPLETE: {line}")),
        "{}",
        failed.err
    );
    assert!(!failed.err.contains("cancelled"), "{}", failed.err);
    assert!(failed.err.contains("not begun: app"), "{}", failed.err);
    assert_eq!(fake.status(WALL), "CREATE_COMPLETE", "what was begun is waited for");
    assert!(lab.expect(0, &["plan", "dev"]).out.contains("its first creation failed"));

    fake.state().failing.clear();
    let again = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(again.err.contains("network: its first creation failed (ROLLBACK_COMPLETE)"));
    assert_eq!(
        (fake.status(NETWORK), fake.status(APP)),
        ("CREATE_COMPLETE".into(), "CREATE_COMPLETE".into())
    );
}

#[test]
fn throttling_of_every_operation_is_waited_out() {
    let (fake, lab) = lab();
    fake.state().throttle = 3;
    lab.expect(0, &["apply", "dev", "--yes"]);
    lab.expect(0, &["destroy", "dev", "--yes", "--allow-data-loss", "app"]);
    assert_eq!(fake.status(NETWORK), "DELETE_COMPLETE");
}

#[test]
fn somebody_elses_update_is_waited_for() {
    let (fake, lab) = made();
    {
        let mut state = fake.state();
        let network = state.stacks.get_mut(NETWORK).unwrap();
        (network.status, network.looks) = ("UPDATE_IN_PROGRESS".into(), 3);
    }
    let ran = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(ran.out.contains("somebody is changing it: UPDATE_IN_PROGRESS"), "{}", ran.out);
    assert!(ran.err.contains("network: UPDATE_IN_PROGRESS is under way"), "{}", ran.err);
}

#[test]
fn a_stack_that_needs_repair_stops_apply_before_anything_is_changed() {
    let (fake, lab) = made();
    let change = change("Modify", "Topic", "AWS::SNS::Topic", "False");
    fake.state().changes.insert(WALL.into(), vec![vec![change]]);
    fake.state().stacks.get_mut(APP).unwrap().status = "UPDATE_ROLLBACK_FAILED".into();
    let failed = lab.expect(1, &["apply", "dev", "--yes"]);
    assert!(failed.err.contains("error: app: UPDATE_ROLLBACK_FAILED"), "{}", failed.err);
    assert!(
        failed.err.contains("continue-update-rollback --stack-name small-dev-app"),
        "{}",
        failed.err
    );
    assert_eq!(fake.asked("ExecuteChangeSet"), Vec::<String>::new());
}

#[test]
fn a_first_change_set_that_fails_leaves_no_reserved_name_but_another_runs_stays() {
    let (fake, lab) = lab();
    fake.state().bad_sets.insert(NETWORK.into(), "No export named x found".into());
    let failed = lab.expect(1, &["apply", "dev", "--yes"]);
    assert!(failed.err.contains("error: network: No export named x found"), "{}", failed.err);
    assert_eq!(fake.asked("DeleteStack"), [NETWORK]);
    // The same with a change set of somebody else.
    let other =
        Stack { status: "REVIEW_IN_PROGRESS".into(), id: "other".into(), ..Stack::default() };
    {
        let mut state = fake.state();
        let sets = [("theirs".to_owned(), common::fake::Set::default())].into();
        state.stacks.insert(NETWORK.into(), Stack { sets, ..other });
        state.calls.clear();
    }
    lab.expect(1, &["apply", "dev", "--yes", "--stack", "network"]);
    assert_eq!(fake.asked("DeleteStack"), Vec::<String>::new());
    assert_eq!(fake.state().stacks[NETWORK].sets.keys().collect::<Vec<_>>(), ["theirs"]);
}

#[test]
fn an_interrupted_run_says_what_goes_on_and_leaves_no_change_set_that_waits() {
    let (fake, lab) = lab();
    fake.state().looks = 1_000_000;
    let child = lab.start(&["apply", "dev", "--yes"]);
    wait_until("the creation", || {
        fake.status(NETWORK) == "CREATE_IN_PROGRESS" && fake.status(WALL) == "CREATE_IN_PROGRESS"
    });
    common::interrupt(&child);
    let ran = ran(&child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(
        ran.err
            .contains("small-dev-network: CloudFormation goes on: CREATE_IN_PROGRESS in eu-west-1"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("error: interrupted\nhint: run it again"), "{}", ran.err);
    assert!(fake.state().stacks.values().all(|s| s.sets.is_empty()));

    {
        let mut state = fake.state();
        state.looks = 1;
        state.stacks.values_mut().for_each(|s| s.looks = 2);
    }
    lab.expect(0, &["apply", "dev", "--yes"]);
    assert_eq!(fake.status(APP), "CREATE_COMPLETE");
}

#[test]
fn a_deletion_that_fails_says_why_and_the_next_run_tries_again() {
    let (fake, lab) = made();
    fake.state().failing.insert("Group".into(), "it is in use".into());
    let words = ["destroy", "dev", "--yes", "--allow-data-loss", "app.Journal"];
    let failed = lab.expect(1, &words);
    assert!(
        failed
            .err
            .contains("error: network: DELETE_FAILED: infra/templates/network.yaml:16: Group"),
        "{}",
        failed.err
    );
    fake.state().failing.clear();
    lab.expect(0, &words);
    assert_eq!(fake.status(NETWORK), "DELETE_COMPLETE");
}

#[test]
fn wrong_words_are_told_before_aws_is_asked() {
    let (fake, lab) = lab();
    for (words, part) in [
        (&["plan", "nowhere"][..], "there is no environment nowhere"),
        (&["plan", "dev", "--stack", "nope"], "dev has no stack nope"),
        (&["apply", "dev", "--yes", "--allow-data-loss", "app"], "it wants STACK.RESOURCE"),
        (&["apply", "dev", "--yes", "--allow-data-loss", "nope.Db"], "it wants STACK.RESOURCE"),
        (&["plan"], "required"),
    ] {
        let failed = lab.expect(2, words);
        assert!(failed.err.contains(part), "{words:?}: {}", failed.err);
    }
    assert!(fake.state().calls.is_empty());
}

#[test]
fn an_environment_is_worked_on_in_its_own_region_only() {
    let (fake, lab) = made();
    for words in [
        &["plan", "dev", "--region", "eu-west-2"][..],
        &["apply", "dev", "--yes", "--region", "eu-west-2"],
        &["destroy", "dev", "--yes", "--region", "eu-west-2", "--allow-data-loss", "app"],
    ] {
        let refused = lab.expect(5, words);
        assert!(
            refused.err.contains("error: --region eu-west-2: dev is in eu-west-1"),
            "{}",
            refused.err
        );
    }
    assert!(fake.state().calls.is_empty(), "the account was asked");
    lab.expect(0, &["plan", "dev", "--region", "eu-west-1"]);
}

#[test]
fn mistakes_are_lines_of_their_own_and_the_error_is_one() {
    let (_fake, lab) = lab();
    lab.edit("templates/network.yaml", "!Ref VpcCidr", "!Ref Nothing");
    let failed = lab.expect(2, &["check", "dev"]);
    let errors: Vec<&str> = failed.err.lines().filter(|l| l.starts_with("error: ")).collect();
    assert!(matches!(errors[..], [one] if one.contains("mistake")), "{}", failed.err);
    let first = failed.err.lines().next().unwrap();
    assert!(first.contains("templates/network.yaml:"), "{}", failed.err);
    assert!(!failed.err.contains("palisade-infra check says"), "{}", failed.err);
}
