//! Instances as EC2 knows them.

use palisade_cloud::{
    Query, Repeat,
    xml::{self, Node},
};

use super::{Cloud, CloudError};

const EC2: Query = Query { name: "ec2", version: "2016-11-15" };

/// Pages read at most; at 1000 instances a page nobody gets there.
const MAX_PAGES: usize = 50;

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) id: String,
    /// Its Name tag; empty without one.
    pub(crate) name: String,
    /// `running`, `stopped` and so on.
    pub(crate) state: String,
    pub(crate) private_ip: Option<String>,
}

impl Cloud {
    /// Instances that match all of these filters.
    pub(crate) async fn instances(
        &self,
        filters: &[(String, Vec<String>)],
    ) -> Result<Vec<Instance>, CloudError> {
        let operation = "DescribeInstances";
        let mut base = Vec::new();
        for (i, (name, values)) in filters.iter().enumerate() {
            base.push((format!("Filter.{}.Name", i + 1), name.clone()));
            for (j, value) in values.iter().enumerate() {
                base.push((format!("Filter.{}.Value.{}", i + 1, j + 1), value.clone()));
            }
        }
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut parameters = base.clone();
            parameters.extend(token.take().map(|t| ("NextToken".to_owned(), t)));
            let text = self.query(EC2, operation, &parameters, Repeat::Always).await?;
            token = page(&text, &mut found)
                .map_err(|e| CloudError::Answer { operation, why: e.to_string() })?;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(CloudError::Answer { operation, why: format!("more than {MAX_PAGES} pages") })
    }
}

/// Adds the instances of one page, and returns where the next one begins.
fn page(text: &str, found: &mut Vec<Instance>) -> Result<Option<String>, xml::Error> {
    let document = xml::parse(text)?;
    let root = document.root_element();
    for reservation in items(root, "reservationSet") {
        found.extend(items(reservation, "instancesSet").filter_map(instance));
    }
    Ok(xml::child(root, "nextToken").filter(|t| !t.is_empty()).map(str::to_owned))
}

/// The `item`s of the child of this name.
fn items<'a, 'b: 'a>(node: Node<'a, 'b>, list: &str) -> impl Iterator<Item = Node<'a, 'b>> {
    xml::members(node, list, "item")
}

fn instance(node: Node<'_, '_>) -> Option<Instance> {
    let state = xml::inner(node, "instanceState").and_then(|s| xml::child(s, "name"));
    let name = items(node, "tagSet").find(|t| xml::child(*t, "key") == Some("Name"));
    Some(Instance {
        id: xml::child(node, "instanceId")?.to_owned(),
        name: name.and_then(|t| xml::child(t, "value")).unwrap_or_default().to_owned(),
        state: state.unwrap_or("unknown").to_owned(),
        private_ip: xml::child(node, "privateIpAddress").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_with_names_states_and_the_next_token() {
        let text = r#"<?xml version="1.0"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
            <reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>
            <instanceState><code>16</code><name>running</name></instanceState>
            <privateIpAddress>10.0.0.5</privateIpAddress>
            <tagSet><item><key>Role</key><value>web</value></item><item><key>Name</key><value>web1</value></item></tagSet>
            </item><item><instanceId>i-2</instanceId></item></instancesSet></item></reservationSet>
            <nextToken>t</nextToken></DescribeInstancesResponse>"#;
        let mut found = Vec::new();
        assert_eq!(page(text, &mut found).unwrap().as_deref(), Some("t"));
        let first = Instance {
            id: "i-1".into(),
            name: "web1".into(),
            state: "running".into(),
            private_ip: Some("10.0.0.5".into()),
        };
        assert_eq!(found[0], first);
        assert_eq!((found[1].name.as_str(), found[1].state.as_str()), ("", "unknown"));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"b\">]><a>&b;</a>";
        assert!(page(bomb, &mut found).is_err());
    }
}
