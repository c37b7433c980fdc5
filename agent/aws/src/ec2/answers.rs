//! Reading EC2's answers. Pure: XML in, text out; what the text may be is for the firewall to judge.

use roxmltree::{Document, Node, ParsingOptions};

/// Nodes of one answer: a page of a thousand interfaces has some sixty thousand.
const MAX_NODES: u32 = 400_000;

/// Reads an answer of `operation`. Documents with a DTD are refused, so nothing in one can grow.
///
/// # Errors
/// Says what else it is.
pub(super) fn parse<'a>(text: &'a str, operation: &str) -> Result<Document<'a>, String> {
    let options =
        ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|e| e.to_string())?;
    let root = document.root_element().tag_name().name();
    if root.strip_suffix("Response") != Some(operation) {
        return Err(format!("it is a {:?}", root.chars().take(60).collect::<String>()));
    }
    Ok(document)
}

/// Code and message of a refusal, if it is one.
pub(super) fn refusal(text: &str) -> Option<(String, String)> {
    let options = ParsingOptions { nodes_limit: 1000, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).ok()?;
    let error = document.descendants().find(|n| n.tag_name().name() == "Error")?;
    let cut = |text: &str| text.chars().take(300).collect::<String>();
    Some((cut(child(error, "Code")?), cut(child(error, "Message").unwrap_or("no message"))))
}

/// Where the next page begins.
pub(super) fn next_token<'a>(root: Node<'a, '_>) -> Option<&'a str> {
    child(root, "nextToken").filter(|token| !token.is_empty())
}

/// A managed prefix list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) id: String,
    /// `AWS`, or an account.
    pub(super) owner: String,
    /// Of a list that an account keeps.
    pub(super) version: Option<String>,
}

pub(super) fn lists(root: Node<'_, '_>) -> Vec<List> {
    let list = |item| {
        Some(List {
            id: child(item, "prefixListId")?.to_owned(),
            owner: child(item, "ownerId").unwrap_or_default().to_owned(),
            version: child(item, "version").map(str::to_owned),
        })
    };
    items(root, "prefixListSet").filter_map(list).collect()
}

/// The prefixes of a prefix list.
pub(super) fn entries(root: Node<'_, '_>) -> Vec<String> {
    // An entry without a prefix is no prefix, and is refused as one.
    let cidr = |item| child(item, "cidr").unwrap_or_default().to_owned();
    items(root, "entrySet").map(cidr).collect()
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    /// As prefixes of one address each.
    pub(super) addresses: Vec<String>,
    pub(super) subnet: Option<String>,
}

pub(super) fn interfaces(root: Node<'_, '_>) -> Vec<Interface> {
    let interface = |item| {
        let v4 = items(item, "privateIpAddressesSet").filter_map(|a| child(a, "privateIpAddress"));
        let v6 = items(item, "ipv6AddressesSet").filter_map(|a| child(a, "ipv6Address"));
        let mut addresses: Vec<_> = v4.map(|a| format!("{a}/32")).collect();
        addresses.extend(v6.map(|a| format!("{a}/128")));
        Interface { addresses, subnet: child(item, "subnetId").map(str::to_owned) }
    };
    items(root, "networkInterfaceSet").map(interface).collect()
}

/// The networks of each subnet.
pub(super) fn subnets(root: Node<'_, '_>) -> Vec<Vec<String>> {
    let networks = |item| {
        let mut all: Vec<String> =
            child(item, "cidrBlock").map(str::to_owned).into_iter().collect();
        let v6 = items(item, "ipv6CidrBlockAssociationSet").filter(|a| {
            let state = inner(*a, "ipv6CidrBlockState").and_then(|s| child(s, "state"));
            state.is_none_or(|s| s == "associated")
        });
        all.extend(v6.filter_map(|a| child(a, "ipv6CidrBlock")).map(str::to_owned));
        all
    };
    items(root, "subnetSet").map(networks).collect()
}

fn inner<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|n| n.tag_name().name() == name)
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    inner(node, name)?.text()
}

fn items<'a, 'b>(node: Node<'a, 'b>, list: &str) -> impl Iterator<Item = Node<'a, 'b>> {
    let list = inner(node, list);
    list.into_iter().flat_map(|l| l.children().filter(|n| n.tag_name().name() == "item"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_question_is_read() {
        let page = |name: &str| format!("<{name}><nextToken>t</nextToken></{name}>");
        assert!(parse(&page("DescribeSubnetsResponse"), "DescribeSubnets").is_ok());
        for bad in [
            page("DescribeNetworkInterfacesResponse"),
            page("html"),
            page("DescribeSubnetsResponse").replace("</n", "</m"),
            "<!DOCTYPE x [<!ENTITY a \"b\">]><DescribeSubnetsResponse>&a;</DescribeSubnetsResponse>".to_owned(),
            String::new(),
        ] {
            assert!(parse(&bad, "DescribeSubnets").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_that_is_going_is_no_network_of_a_subnet() {
        let text = "<DescribeSubnetsResponse><subnetSet><item><cidrBlock>10.0.1.0/24</cidrBlock>\
            <ipv6CidrBlockAssociationSet><item><ipv6CidrBlock>2001:db8::/64</ipv6CidrBlock>\
            <ipv6CidrBlockState><state>disassociated</state></ipv6CidrBlockState></item><item>\
            <ipv6CidrBlock>2600:1f18::/64</ipv6CidrBlock><ipv6CidrBlockState><state>associated</state>\
            </ipv6CidrBlockState></item></ipv6CidrBlockAssociationSet></item></subnetSet></DescribeSubnetsResponse>";
        let document = parse(text, "DescribeSubnets").unwrap();
        assert_eq!(subnets(document.root_element()), [["10.0.1.0/24", "2600:1f18::/64"]]);
    }
}
