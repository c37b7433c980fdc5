//! The little XML that EC2 and STS answer.

use roxmltree::{Document, Node, ParsingOptions};

/// Reads an answer. Documents with a DTD are refused, so nothing in one can grow.
pub(super) fn parse(text: &str) -> Result<Document<'_>, roxmltree::Error> {
    let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
    Document::parse_with_options(text, options)
}

/// Text of the first element of this name, at any depth.
pub(super) fn first<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.descendants().find(|n| n.tag_name().name() == name)?.text()
}

/// Text of the child of this name.
pub(super) fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    inner(node, name)?.text()
}

/// The child of this name.
pub(super) fn inner<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|n| n.tag_name().name() == name)
}

/// The `item`s of the child of this name.
pub(super) fn items<'a, 'b: 'a>(
    node: Node<'a, 'b>,
    name: &str,
) -> impl Iterator<Item = Node<'a, 'b>> {
    let list = inner(node, name);
    list.into_iter().flat_map(|l| l.children().filter(|n| n.tag_name().name() == "item"))
}
