//! The little XML that services with the Query protocol answer.

use roxmltree::ParsingOptions;
pub use roxmltree::{Document, Error, Node};

/// Reads an answer. Documents with a DTD are refused, so nothing in one can grow.
///
/// # Errors
/// When it is no XML.
pub fn parse(text: &str) -> Result<Document<'_>, Error> {
    let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
    Document::parse_with_options(text, options)
}

/// Text of the first element of this name, at any depth.
#[must_use]
pub fn first<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.descendants().find(|n| n.tag_name().name() == name)?.text()
}

/// Text of the child of this name.
#[must_use]
pub fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    inner(node, name)?.text()
}

/// The child of this name.
#[must_use]
pub fn inner<'a, 'b>(node: Node<'a, 'b>, name: &str) -> Option<Node<'a, 'b>> {
    node.children().find(|n| n.tag_name().name() == name)
}

/// The elements of this name in the list of that name, as `item`s of EC2 and `member`s of others.
pub fn members<'a, 'b: 'a>(
    node: Node<'a, 'b>,
    list: &str,
    each: &'static str,
) -> impl Iterator<Item = Node<'a, 'b>> {
    let list = inner(node, list);
    list.into_iter().flat_map(move |l| l.children().filter(move |n| n.tag_name().name() == each))
}
