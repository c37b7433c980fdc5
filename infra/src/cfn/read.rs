//! Reads CloudFormation's answers. Pure. Invariant: an answer without its list is an empty list only
//! where CloudFormation leaves empty lists out; an answer that is no XML is an error.

use std::collections::BTreeMap;

use palisade_cloud::xml::{self, Node};

use super::model::{Action, Cause, Change, ChangeSet, Event, Live, Replacement, ResourceState};

/// A page, and where the next one begins.
type Page<T> = Result<(Vec<T>, Option<String>), String>;

pub(super) fn stacks(text: &str) -> Page<Live> {
    list(text, "DescribeStacksResult", "Stacks", |n| {
        Some(Live {
            name: text_of(n, "StackName"),
            id: text_of(n, "StackId"),
            status: required(n, "StackStatus")?,
            reason: text_of(n, "StackStatusReason"),
            protected: text_of(n, "EnableTerminationProtection") == "true",
            parameters: map(n, "Parameters", "ParameterKey", "ParameterValue"),
            outputs: map(n, "Outputs", "OutputKey", "OutputValue"),
        })
    })
}

pub(super) fn events(text: &str) -> Page<Event> {
    list(text, "DescribeStackEventsResult", "StackEvents", |n| {
        Some(Event {
            id: required(n, "EventId")?,
            logical: text_of(n, "LogicalResourceId"),
            physical: text_of(n, "PhysicalResourceId"),
            kind: text_of(n, "ResourceType"),
            status: text_of(n, "ResourceStatus"),
            reason: text_of(n, "ResourceStatusReason"),
            at: palisade_cloud::clock::parse(&text_of(n, "Timestamp")),
        })
    })
}

pub(super) fn resources(text: &str) -> Page<ResourceState> {
    list(text, "ListStackResourcesResult", "StackResourceSummaries", |n| {
        Some(ResourceState {
            logical: required(n, "LogicalResourceId")?,
            physical: text_of(n, "PhysicalResourceId"),
            kind: required(n, "ResourceType")?,
            status: text_of(n, "ResourceStatus"),
        })
    })
}

pub(super) fn change_set(text: &str) -> Result<(ChangeSet, Option<String>), String> {
    let document = xml::parse(text).map_err(|e| e.to_string())?;
    let result = result(document.root_element(), "DescribeChangeSetResult")?;
    let changes = xml::members(result, "Changes", "member")
        .map(|n| change(n).ok_or_else(|| "a change that cannot be read".to_owned()))
        .collect::<Result<_, _>>()?;
    let set = ChangeSet {
        status: required(result, "Status").ok_or("no Status")?,
        execution: text_of(result, "ExecutionStatus"),
        reason: text_of(result, "StatusReason"),
        changes,
    };
    Ok((set, token(result)))
}

pub(super) fn any_change_set(text: &str) -> Result<bool, String> {
    let document = xml::parse(text).map_err(|e| e.to_string())?;
    let result = result(document.root_element(), "ListChangeSetsResult")?;
    Ok(xml::members(result, "Summaries", "member").next().is_some())
}

pub(super) fn template(text: &str) -> Result<String, String> {
    let document = xml::parse(text).map_err(|e| e.to_string())?;
    let result = result(document.root_element(), "GetTemplateResult")?;
    required(result, "TemplateBody").ok_or_else(|| "no TemplateBody".to_owned())
}

/// A change that cannot be read is an error, not a change that is left out: it could lose data.
fn change(node: Node<'_, '_>) -> Option<Change> {
    let node = xml::inner(node, "ResourceChange")?;
    let action = match xml::child(node, "Action")? {
        "Add" => Action::Add,
        "Modify" => Action::Modify,
        "Remove" => Action::Remove,
        "Import" => Action::Import,
        _ => Action::Dynamic,
    };
    let replacement = match xml::child(node, "Replacement") {
        None | Some("False") => Replacement::No,
        Some("True") => Replacement::Yes,
        Some(_) => Replacement::Perhaps,
    };
    let mut causes: Vec<Cause> = Vec::new();
    for cause in xml::members(node, "Details", "member").filter_map(cause) {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    Some(Change {
        action,
        logical: required(node, "LogicalResourceId")?,
        kind: required(node, "ResourceType")?,
        replacement,
        causes,
    })
}

fn cause(node: Node<'_, '_>) -> Option<Cause> {
    let target = xml::inner(node, "Target")?;
    let attribute = text_of(target, "Attribute");
    let name = text_of(target, "Name");
    Some(Cause {
        what: if name.is_empty() { attribute } else { name },
        by: text_of(node, "CausingEntity"),
        recreation: text_of(target, "RequiresRecreation"),
    })
}

fn list<T>(
    text: &str,
    result_name: &str,
    name: &str,
    each: impl Fn(Node<'_, '_>) -> Option<T>,
) -> Page<T> {
    let document = xml::parse(text).map_err(|e| e.to_string())?;
    let result = result(document.root_element(), result_name)?;
    let found = xml::members(result, name, "member")
        .map(|n| each(n).ok_or_else(|| format!("an entry of {name} that cannot be read")))
        .collect::<Result<_, _>>()?;
    Ok((found, token(result)))
}

fn result<'a, 'b>(root: Node<'a, 'b>, name: &str) -> Result<Node<'a, 'b>, String> {
    xml::inner(root, name).ok_or_else(|| format!("no {name}"))
}

fn token(node: Node<'_, '_>) -> Option<String> {
    xml::child(node, "NextToken").filter(|t| !t.is_empty()).map(str::to_owned)
}

fn map(node: Node<'_, '_>, name: &str, key: &str, value: &str) -> BTreeMap<String, String> {
    xml::members(node, name, "member").map(|n| (text_of(n, key), text_of(n, value))).collect()
}

fn required(node: Node<'_, '_>, name: &str) -> Option<String> {
    xml::child(node, name).map(str::to_owned)
}

fn text_of(node: Node<'_, '_>, name: &str) -> String {
    xml::child(node, name).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NS: &str = "xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"";

    #[test]
    fn a_change_says_what_happens_why_and_whether_something_new_takes_its_place() {
        let text = format!(
            "<DescribeChangeSetResponse {NS}><DescribeChangeSetResult><Status>CREATE_COMPLETE</Status>\
             <ExecutionStatus>AVAILABLE</ExecutionStatus><Changes><member><Type>Resource</Type>\
             <ResourceChange><Action>Modify</Action><LogicalResourceId>Db</LogicalResourceId>\
             <ResourceType>AWS::RDS::DBCluster</ResourceType><Replacement>Conditional</Replacement>\
             <Details><member><Target><Attribute>Properties</Attribute><Name>KmsKeyId</Name>\
             <RequiresRecreation>Always</RequiresRecreation></Target><CausingEntity>Key</CausingEntity>\
             </member></Details></ResourceChange></member></Changes><NextToken>n</NextToken>\
             </DescribeChangeSetResult></DescribeChangeSetResponse>"
        );
        let (set, next) = change_set(&text).unwrap();
        assert_eq!(next.as_deref(), Some("n"));
        let cause =
            Cause { what: "KmsKeyId".into(), by: "Key".into(), recreation: "Always".into() };
        let change = Change {
            action: Action::Modify,
            logical: "Db".into(),
            kind: "AWS::RDS::DBCluster".into(),
            replacement: Replacement::Perhaps,
            causes: vec![cause],
        };
        assert_eq!(set.changes, [change]);
        let unreadable = text.replace("<LogicalResourceId>Db</LogicalResourceId>", "");
        assert!(change_set(&unreadable).is_err());
    }

    #[test]
    fn a_change_set_without_changes_is_told_from_one_that_failed() {
        let set = |reason: &str| ChangeSet {
            status: "FAILED".into(),
            reason: reason.into(),
            ..ChangeSet::default()
        };
        assert!(set("The submitted information didn't contain changes. Submit...").is_empty());
        assert!(set("No updates are to be performed.").is_empty());
        assert!(!set("Parameters: [X] must have values").is_empty());
    }

    #[test]
    fn stacks_are_read_with_parameters_outputs_and_protection() {
        let text = format!(
            "<DescribeStacksResponse {NS}><DescribeStacksResult><Stacks><member><StackName>p-d-net</StackName>\
             <StackId>arn:1</StackId><StackStatus>CREATE_COMPLETE</StackStatus>\
             <EnableTerminationProtection>true</EnableTerminationProtection><Parameters><member>\
             <ParameterKey>Env</ParameterKey><ParameterValue>d</ParameterValue></member></Parameters>\
             <Outputs><member><OutputKey>VpcId</OutputKey><OutputValue>vpc-1</OutputValue></member>\
             </Outputs></member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
        );
        let (found, next) = stacks(&text).unwrap();
        let live = &found[0];
        assert_eq!((next, live.protected, live.name.as_str()), (None, true, "p-d-net"));
        assert_eq!(live.outputs["VpcId"], "vpc-1");
        assert_eq!(live.parameters["Env"], "d");
        assert!(stacks("<a/>").is_err());
    }

    #[test]
    fn events_have_their_time() {
        let text = "<R><DescribeStackEventsResult><StackEvents><member><EventId>e</EventId>\
                    <LogicalResourceId>Vpc</LogicalResourceId><ResourceStatus>CREATE_FAILED</ResourceStatus>\
                    <Timestamp>2026-11-25T12:00:00.250Z</Timestamp></member></StackEvents>\
                    </DescribeStackEventsResult></R>";
        let (found, _) = events(text).unwrap();
        assert_eq!((found[0].at, found[0].status.as_str()), (Some(1_795_608_000), "CREATE_FAILED"));
    }
}
