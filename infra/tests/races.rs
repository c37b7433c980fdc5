//! What happens between a look and a deed: answers that do not come, states that are old, and somebody
//! else's work at the worst moment, against a strict fake of CloudFormation.

mod common;

use common::{
    fake::change,
    ran,
    small::{APP, NETWORK, WALL, lab, made},
    terminal::on_a_terminal,
    wait_until,
};

const TOPIC: &str = "AWS::SNS::Topic";

#[test]
fn an_execution_whose_answer_was_lost_is_followed_and_not_begun_anew() {
    let (fake, lab) = lab();
    fake.state().lost.insert("ExecuteChangeSet".into());
    let ran = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(ran.out.contains("applied: 3 of 3 stacks changed"), "{}", ran.out);
    assert_eq!(fake.asked("ExecuteChangeSet").len(), 4, "one was sent twice");
    assert_eq!(fake.asked("CreateChangeSet").len(), 3);
    assert!(!ran.err.contains("is under way: waiting"), "{}", ran.err);
}

/// Not against ministack: it carries out a second change set of a stack beside the first, which
/// CloudFormation makes void.
#[test]
fn two_that_apply_at_once_both_end_well() {
    let (fake, lab) = lab();
    fake.state().looks = 3;
    let runs = [lab.start(&["apply", "dev", "--yes"]), lab.start(&["apply", "dev", "--yes"])];
    for run in runs {
        let ran = ran(&run.wait_with_output().unwrap());
        assert_eq!(ran.code, Some(0), "{}\n{}", ran.out, ran.err);
    }
    for name in [NETWORK, WALL, APP] {
        assert_eq!(fake.status(name), "CREATE_COMPLETE", "{name}");
    }
    assert!(lab.expect(0, &["plan", "dev"]).out.contains("nothing to change"));
}

#[test]
fn an_interruption_before_the_answer_says_what_may_go_on() {
    let (fake, lab) = lab();
    {
        let mut state = fake.state();
        state.held.insert("ExecuteChangeSet".into());
        state.looks = 1_000_000;
    }
    let child = lab.start(&["apply", "dev", "--yes", "--stack", "network"]);
    wait_until("the creation", || fake.status(NETWORK) == "CREATE_IN_PROGRESS");
    common::interrupt(&child);
    let ran = ran(&child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    let says = "small-dev-network: CloudFormation goes on: CREATE_IN_PROGRESS in eu-west-1";
    assert!(ran.err.contains(says), "{}", ran.err);
}

#[test]
fn a_state_of_before_ends_no_wait() {
    let (fake, lab) = lab();
    fake.state().stale = 2;
    lab.expect(0, &["apply", "dev", "--yes"]);
    let touch = change("Modify", "Topic", TOPIC, "False");
    {
        let mut state = fake.state();
        state.changes.insert(WALL.into(), vec![vec![touch]]);
        state.failing.insert("Topic".into(), "it is not to be changed".into());
    }
    let failed = lab.expect(1, &["apply", "dev", "--yes"]);
    let says = "error: wall: UPDATE_ROLLBACK_COMPLETE: infra/templates/wall.yaml";
    assert!(failed.err.contains(says), "{}", failed.err);
    {
        let mut state = fake.state();
        state.failing.clear();
        state.changes.clear();
    }
    lab.expect(0, &["destroy", "dev", "--yes", "--allow-data-loss", "app"]);
    assert_eq!(fake.status(NETWORK), "DELETE_COMPLETE");
}

#[test]
fn a_stack_whose_feed_somebody_else_changed_after_the_plan_is_looked_at_again() {
    let (fake, lab) = made();
    let touch = change("Modify", "WallName", "AWS::SSM::Parameter", "False");
    fake.state().changes.insert(APP.into(), vec![Vec::new(), vec![touch]]);
    let quiet = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(quiet.out.contains("applied: 0 of 3"), "{}", quiet.out);
    assert_eq!(fake.asked("CreateChangeSet").iter().filter(|s| *s == APP).count(), 1);
    // The plan finds nothing, and then the output of the other region becomes another.
    fake.state().stacks.get_mut(APP).unwrap().sets_made = 0;
    fake.after(1, "DeleteChangeSet", APP, |state| {
        let wall = state.stacks.get_mut(WALL).unwrap();
        wall.outputs.insert("TopicArn".into(), "another".into());
    });
    let ran = lab.expect(0, &["apply", "dev", "--yes"]);
    assert!(ran.out.contains("nothing to change"), "{}", ran.out);
    assert!(ran.out.contains("applied: 1 of 3"), "{}", ran.out);
    assert!(ran.err.contains("app: these changes are not those of the plan"), "{}", ran.err);
    assert_eq!(fake.asked("ExecuteChangeSet"), [APP]);
}

#[test]
fn the_origin_that_came_into_use_after_the_plan_is_left_alone() {
    let (fake, lab) = made();
    let touch = change("Modify", "VpcOriginB", "AWS::CloudFront::VpcOrigin", "False");
    {
        let mut state = fake.state();
        let wall = state.stacks.get_mut(WALL).unwrap();
        wall.outputs.insert("ActiveOrigin".into(), "A".into());
        state.changes.insert(WALL.into(), vec![vec![touch]]);
    }
    // The second change set is the one that is carried out.
    fake.after(2, "CreateChangeSet", WALL, |state| {
        let wall = state.stacks.get_mut(WALL).unwrap();
        wall.outputs.insert("ActiveOrigin".into(), "B".into());
    });
    let refused = lab.expect(5, &["apply", "dev", "--yes"]);
    assert!(refused.err.contains("wall.VpcOriginB is the VPC origin in use"), "{}", refused.err);
    assert_eq!(fake.asked("ExecuteChangeSet"), Vec::<String>::new());
}

#[test]
fn an_instance_that_stands_alone_today_is_data_even_if_it_becomes_a_clusters() {
    let (fake, lab) = made();
    let replaced = change("Modify", "Db", "AWS::RDS::DBInstance", "True");
    let deployed = |properties: serde_json::Value| serde_json::json!({"Resources": {"Db": {"Type": "AWS::RDS::DBInstance", "Properties": properties}}});
    fake.state().changes.insert(APP.into(), vec![vec![replaced]]);
    fake.state().stacks.get_mut(APP).unwrap().template = deployed(serde_json::json!({}));
    let refused = lab.expect(5, &["apply", "dev", "--yes"]);
    assert!(refused.err.contains("app.Db (AWS::RDS::DBInstance) holds data"), "{}", refused.err);
    let member = serde_json::json!({"DBClusterIdentifier": {"Ref": "Cluster"}});
    fake.state().stacks.get_mut(APP).unwrap().template = deployed(member);
    lab.expect(0, &["apply", "dev", "--yes"]);
}

#[test]
fn a_person_is_asked_again_about_changes_that_the_plan_did_not_show() {
    for (answer, code, executed) in [("yes", 0, vec![WALL]), ("no", 1, vec![])] {
        let (fake, lab) = made();
        let [shown, other] =
            ["Topic", "Other"].map(|logical| change("Modify", logical, TOPIC, "False"));
        fake.state().changes.insert(WALL.into(), vec![vec![shown], vec![other]]);
        let Some((ended, said)) = on_a_terminal(&lab, "apply dev", &["yes", answer]) else {
            return;
        };
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains("wall: these changes are not those of the plan"), "{said}");
        assert!(said.contains("apply these changes of wall? [yes]"), "{said}");
        assert_eq!(fake.asked("ExecuteChangeSet"), executed, "{said}");
    }
    let (fake, lab) = made();
    let shown = change("Modify", "Topic", TOPIC, "False");
    fake.state().changes.insert(WALL.into(), vec![vec![shown]]);
    let Some((ended, said)) = on_a_terminal(&lab, "apply dev", &["yes"]) else { return };
    assert_eq!((ended, said.contains("not those of the plan")), (Some(0), false), "{said}");
}

#[test]
fn data_that_came_after_the_survey_is_not_deleted() {
    let (fake, lab) = made();
    // After the survey, and before the deletion looks again.
    fake.after(1, "GetTemplate", APP, |state| {
        let app = state.stacks.get_mut(APP).unwrap();
        app.template["Resources"]["Late"] = serde_json::json!({"Type": "AWS::S3::Bucket"});
    });
    let words = ["destroy", "dev", "--yes", "--allow-data-loss", "app"];
    let refused = lab.expect(5, &words);
    assert!(refused.err.contains("error: app: Late (AWS::S3::Bucket"), "{}", refused.err);
    assert!(refused.err.contains("was not there before"), "{}", refused.err);
    assert_eq!(fake.asked("DeleteStack"), Vec::<String>::new());
    lab.expect(0, &words);
}

#[test]
fn protection_that_came_after_the_survey_holds_and_a_deletion_that_fails_gives_it_back() {
    let (fake, lab) = made();
    fake.after(1, "GetTemplate", APP, |state| {
        state.stacks.get_mut(APP).unwrap().protected = true;
    });
    let words = ["destroy", "dev", "--yes", "--allow-data-loss", "app"];
    let refused = lab.expect(5, &words);
    assert!(refused.err.contains("it is protected against deletion"), "{}", refused.err);
    assert_eq!(fake.asked("DeleteStack"), Vec::<String>::new());

    fake.state().failing.insert("GroupName".into(), "it is in use".into());
    let unprotect: Vec<&str> =
        words.into_iter().chain(["--disable-termination-protection"]).collect();
    let failed = lab.expect(1, &unprotect);
    assert!(failed.err.contains("app: protected against deletion again"), "{}", failed.err);
    assert!(fake.state().stacks[APP].protected);
    fake.state().failing.clear();
    lab.expect(0, &unprotect);
}
