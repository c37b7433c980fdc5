//! The four actions: a form in, items as XML out.

use std::collections::BTreeMap;

use super::state::{Interface, PrefixList, State, Subnet};

/// An error of EC2: status, code, message.
pub(super) type Refusal = (u16, &'static str, String);

/// The pairs of a form.
pub(super) type Form = BTreeMap<String, String>;

/// The list's name in the answer, and its items.
pub(super) fn call(
    state: &State,
    action: &str,
    form: &Form,
) -> Result<(&'static str, Vec<String>), Refusal> {
    match action {
        "DescribeManagedPrefixLists" => {
            only(form, &["PrefixListId."])?;
            let filters = filters(form, &["prefix-list-id", "prefix-list-name", "owner-id"])?;
            let ids = numbered(form, "PrefixListId");
            if let Some(id) = ids.iter().find(|id| !state.lists.iter().any(|l| l.id == **id)) {
                let why = format!("The prefix list ID '{id}' does not exist");
                return Err((400, "InvalidPrefixListID.NotFound", why));
            }
            let fits = |l: &&PrefixList| {
                (ids.is_empty() || ids.contains(&l.id))
                    && filters.iter().all(|(name, values)| {
                        let text = match name.as_str() {
                            "prefix-list-id" => &l.id,
                            "prefix-list-name" => &l.name,
                            _ => &l.owner,
                        };
                        any(values, text)
                    })
            };
            Ok(("prefixListSet", state.lists.iter().filter(fits).map(list).collect()))
        }
        "GetManagedPrefixListEntries" => {
            only(form, &["PrefixListId", "TargetVersion"])?;
            let id = form.get("PrefixListId").cloned().unwrap_or_default();
            let found = state.lists.iter().find(|l| l.id == id).ok_or_else(|| {
                let why = format!("The prefix list ID '{id}' does not exist");
                (400, "InvalidPrefixListID.NotFound", why)
            })?;
            let version = form.get("TargetVersion");
            if version.is_some() && version.cloned() != found.version.map(|v| v.to_string()) {
                let why = format!("no version {version:?} of {id}");
                return Err((400, "InvalidPrefixListVersion", why));
            }
            let entry = |c: &String| format!("<item><cidr>{}</cidr></item>", escaped(c));
            Ok(("entrySet", found.cidrs.iter().map(entry).collect()))
        }
        "DescribeNetworkInterfaces" => {
            only(form, &[])?;
            let known = ["vpc-id", "group-name", "description", "requester-managed", "subnet-id"];
            let filters = filters(form, &known)?;
            let fits = |i: &&Interface| filters.iter().all(|(name, values)| fit(i, name, values));
            let found = state.interfaces.iter().filter(fits).map(interface);
            Ok(("networkInterfaceSet", found.collect()))
        }
        "DescribeSubnets" => {
            only(form, &[])?;
            let filters = filters(form, &["subnet-id", "vpc-id"])?;
            let fits = |s: &&Subnet| {
                filters.iter().all(|(name, values)| name == "subnet-id" && any(values, &s.id))
            };
            Ok(("subnetSet", state.subnets.iter().filter(fits).map(subnet).collect()))
        }
        _ => Err((400, "InvalidAction", format!("The action {action} is not valid"))),
    }
}

/// Refuses parameters that the action has not.
fn only(form: &Form, own: &[&str]) -> Result<(), Refusal> {
    let common = ["Action", "Version", "MaxResults", "NextToken"];
    let known = |name: &str| {
        common.contains(&name)
            || name.starts_with("Filter.")
            || own.iter().any(|o| name == *o || (o.ends_with('.') && name.starts_with(o)))
    };
    match form.keys().find(|name| !known(name)) {
        Some(name) => {
            Err((400, "UnknownParameter", format!("The parameter {name} is not recognized")))
        }
        None => Ok(()),
    }
}

fn filters(form: &Form, known: &[&str]) -> Result<Vec<(String, Vec<String>)>, Refusal> {
    let mut filters = Vec::new();
    for n in 1.. {
        let Some(name) = form.get(&format!("Filter.{n}.Name")) else { break };
        if !known.contains(&name.as_str()) && !name.starts_with("tag:") {
            let why = format!("The filter '{name}' is invalid");
            return Err((400, "InvalidParameterValue", why));
        }
        let values = numbered(form, &format!("Filter.{n}.Value"));
        if values.is_empty() || values.len() > 200 {
            return Err((400, "InvalidParameterValue", format!("values of {name}")));
        }
        filters.push((name.clone(), values));
    }
    let given = form.keys().filter(|k| k.starts_with("Filter.") && k.ends_with(".Name")).count();
    if given != filters.len() {
        return Err((400, "InvalidParameterValue", "filters are not numbered".to_owned()));
    }
    Ok(filters)
}

fn numbered(form: &Form, name: &str) -> Vec<String> {
    (1..).map_while(|n| form.get(&format!("{name}.{n}")).cloned()).collect()
}

fn fit(i: &Interface, name: &str, values: &[String]) -> bool {
    match name {
        "vpc-id" => any(values, &i.vpc),
        "subnet-id" => any(values, &i.subnet),
        "group-name" => i.groups.iter().any(|g| any(values, g)),
        "description" => any(values, &i.description),
        "requester-managed" => any(values, &i.requester_managed.to_string()),
        tag => {
            let tag = tag.strip_prefix("tag:").unwrap_or(tag);
            i.tags.get(tag).is_some_and(|v| any(values, v))
        }
    }
}

fn any(values: &[String], text: &str) -> bool {
    values.iter().any(|v| like(v.as_bytes(), text.as_bytes()))
}

/// Whether text fits a pattern with `*` and `?`.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            like(rest, text) || text.split_first().is_some_and(|(_, t)| like(pattern, t))
        }
        (Some((b'?', rest)), Some((_, t))) => like(rest, t),
        (Some((p, rest)), Some((c, t))) => p == c && like(rest, t),
        _ => false,
    }
}

fn list(l: &PrefixList) -> String {
    let version = l.version.map(|v| format!("<version>{v}</version>")).unwrap_or_default();
    format!(
        "<item><prefixListId>{}</prefixListId><addressFamily>IPv4</addressFamily><state>\
         create-complete</state><prefixListName>{}</prefixListName>{version}<ownerId>{}</ownerId></item>",
        escaped(&l.id),
        escaped(&l.name),
        escaped(&l.owner)
    )
}

fn interface(i: &Interface) -> String {
    let v4: String =
        i.v4.iter()
            .map(|a| format!("<item><privateIpAddress>{}</privateIpAddress></item>", escaped(a)))
            .collect();
    let v6: String =
        i.v6.iter()
            .map(|a| format!("<item><ipv6Address>{}</ipv6Address></item>", escaped(a)))
            .collect();
    format!(
        "<item><subnetId>{}</subnetId><vpcId>{}</vpcId><description>{}</description>\
         <privateIpAddressesSet>{v4}</privateIpAddressesSet><ipv6AddressesSet>{v6}\
         </ipv6AddressesSet></item>",
        escaped(&i.subnet),
        escaped(&i.vpc),
        escaped(&i.description)
    )
}

fn subnet(s: &Subnet) -> String {
    let v6 = s.v6.iter().map(|c| {
        format!(
            "<item><ipv6CidrBlock>{}</ipv6CidrBlock><ipv6CidrBlockState><state>associated</state>\
             </ipv6CidrBlockState></item>",
            escaped(c)
        )
    });
    format!(
        "<item><subnetId>{}</subnetId><cidrBlock>{}</cidrBlock><ipv6CidrBlockAssociationSet>{}\
         </ipv6CidrBlockAssociationSet></item>",
        escaped(&s.id),
        escaped(&s.v4),
        v6.collect::<String>()
    )
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
