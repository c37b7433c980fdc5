//! C03: sessions are recorded, what may be sent to hosts is named, and what a document takes from its
//! caller cannot become a command of its own.

use regex_syntax::hir::{Class, Hir, HirKind};

use super::{
    Facts, How, Report, Rule,
    grants::{Document, Use, documents},
};
use crate::{
    estate::{Place, Resource},
    policy::{Statement, matches, statements},
    value::Value,
};

pub(super) fn rules() -> Vec<Rule> {
    vec![Rule {
        id: "C03",
        title: "Sessions are recorded in an encrypted group, sessions and commands are allowed by \
                document and by host's tag, and no input of a document can break out of its quotes",
        pci: &["7.2.1", "7.2.2", "7.2.5", "8.2.2", "10.2.1.2"],
        how: How::Check(access),
    }]
}

/// Documents that bastionctl sends.
const OURS: &[&str] = &[
    "Palisade-GrantAccess",
    "Palisade-Patch",
    "Palisade-Restart",
    "Palisade-RevokeAccess",
    "Palisade-Status",
];

fn access(facts: &Facts<'_>, report: &mut Report) {
    let (mut recorded, mut sent) = (0, Vec::new());
    for (place, document) in facts.estate.of("AWS::SSM::Document") {
        match document.str("DocumentType").unwrap_or("Command") {
            "Session" => recorded += usize::from(session(facts, report, place, document)),
            "Command" | "Automation" => {
                inputs(facts, report, place, document);
                sent.extend(document.str("Name"));
            }
            _ => {}
        }
    }
    for document in documents(facts.estate).iter().filter(|d| d.of == Use::Identity) {
        for statement in statements(document.value).iter().filter(|s| s.allows) {
            limits(facts, report, document, statement);
        }
    }
    let all = &facts.project.stacks;
    let missing: Vec<_> = OURS.iter().filter(|name| !sent.contains(*name)).copied().collect();
    // Their names are fixed, so only one environment of an account and region can own them.
    let elsewhere =
        facts.estate.stacks.iter().any(|s| {
            s.parameters.get("AccountDocuments").is_some_and(|v| v.as_bool() == Some(false))
        });
    if let Some(first) = all.first() {
        if !missing.is_empty() && !elsewhere {
            let what = format!("no template has the documents {}", missing.join(", "));
            report.at(&first.at, "SSM documents", what);
        }
        if recorded == 0 {
            report.at(&first.at, "SSM sessions", "no document of recorded sessions is there");
        }
    }
}

/// Whether the document is one of shells; it must then record them.
fn session(facts: &Facts<'_>, report: &mut Report, place: Place, document: &Resource) -> bool {
    // Ports and commands are not recorded by SSM, whatever the document says.
    if document.str("Content.sessionType") != Some("Standard_Stream") {
        return false;
    }
    let input = |key: &str| document.get("Content.inputs").and_then(|i| i.get(key));
    let group = input("cloudWatchLogGroupName").and_then(Value::as_str).unwrap_or_default();
    let path = "Content.inputs.cloudWatchLogGroupName";
    match facts.estate.find_of("AWS::Logs::LogGroup", group) {
        _ if group.is_empty() => {
            report.add(facts, place, path, "does not record sessions in a log group");
        }
        None => {
            let what = format!("records sessions in {group}, which is no group of the environment");
            report.add(facts, place, path, what);
        }
        Some(_) => {}
    }
    if input("cloudWatchEncryptionEnabled").and_then(Value::as_bool) != Some(true) {
        let path = "Content.inputs.cloudWatchEncryptionEnabled";
        report.add(facts, place, path, "records sessions even into a group that is not encrypted");
    }
    if input("kmsKeyId").and_then(Value::as_str).unwrap_or_default().is_empty() {
        let path = "Content.inputs.kmsKeyId";
        report.add(facts, place, path, "encrypts what is typed with no key of ours");
    }
    true
}

/// Every parameter of a document has a pattern that admits nothing a shell or JSON would act on.
fn inputs(facts: &Facts<'_>, report: &mut Report, place: Place, document: &Resource) {
    let parameters = document.get("Content.parameters").map(Value::entries).unwrap_or_default();
    for parameter in parameters {
        let path = format!("Content.parameters.{}", parameter.key);
        let name = &parameter.key;
        if parameter.value.get("allowedValues").is_some() {
            continue;
        }
        let Some(pattern) = parameter.value.get("allowedPattern").and_then(Value::as_str) else {
            report.add(facts, place, &path, format!("takes anything for {name}"));
            continue;
        };
        let path = format!("{path}.allowedPattern");
        match whole_and_safe(pattern) {
            Ok(()) => {}
            Err(why) => {
                let finding = report.add(facts, place, &path, format!("{name} {why}"));
                finding.witness.push(format!("allowedPattern {pattern}"));
            }
        }
    }
}

/// Whether a pattern is of the whole text, and no text that fits it holds a character with which a value
/// could end the quotes around it.
fn whole_and_safe(pattern: &str) -> Result<(), String> {
    let parsed = regex_syntax::parse(pattern).map_err(|_| String::from("has no valid pattern"))?;
    let looks = |hir: &Hir| {
        let properties = hir.properties();
        use regex_syntax::hir::Look::{End, Start};
        properties.look_set_prefix().contains(Start) && properties.look_set_suffix().contains(End)
    };
    if !looks(&parsed) {
        return Err("is only searched for its pattern, and may hold anything around it".into());
    }
    match dangerous(&parsed) {
        None => Ok(()),
        Some(c) => Err(format!("may hold {c:?}, which ends quotes or starts a command")),
    }
}

/// A character that texts of this pattern may hold and must not.
fn dangerous(hir: &Hir) -> Option<char> {
    const ENDS: &[char] = &['\'', '"', '`', '$', '\\', '\n', '\r', '\0'];
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(literal) => {
            let text = String::from_utf8_lossy(&literal.0).into_owned();
            ENDS.iter().copied().find(|c| text.contains(*c))
        }
        HirKind::Class(Class::Unicode(class)) => ENDS
            .iter()
            .copied()
            .find(|c| class.iter().any(|range| (range.start()..=range.end()).contains(c))),
        HirKind::Class(Class::Bytes(class)) => ENDS.iter().copied().find(|c| {
            u8::try_from(*c)
                .is_ok_and(|b| class.iter().any(|range| (range.start()..=range.end()).contains(&b)))
        }),
        HirKind::Repetition(repetition) => dangerous(&repetition.sub),
        HirKind::Capture(capture) => dangerous(&capture.sub),
        HirKind::Concat(all) | HirKind::Alternation(all) => all.iter().find_map(dangerous),
    }
}

/// A statement that allows sessions or commands names documents, and hosts by a tag.
fn limits(facts: &Facts<'_>, report: &mut Report, document: &Document<'_>, one: &Statement<'_>) {
    const ACTIONS: &[&str] = &["ssm:StartSession", "ssm:SendCommand"];
    let allowed: Vec<_> = ACTIONS.iter().filter(|a| one.covers_action(a)).copied().collect();
    if allowed.is_empty() {
        return;
    }
    let actions = allowed.join(" and ");
    let tagged = one.conditions.iter().any(|(operator, key, values)| {
        let key = key.to_ascii_lowercase();
        let by_tag = key.starts_with("ssm:resourcetag/") || key.starts_with("aws:resourcetag/");
        // `IfExists` also holds where there is no tag.
        by_tag
            && operator.starts_with("String")
            && !operator.ends_with("IfExists")
            && !operator.contains("Not")
            && values.iter().all(|v| v != "*")
    });
    let mut say = |what: String, witness: &str| {
        let name = facts.estate.name(document.place);
        report.at(one.at, name, what).witness.push(format!("Resource {witness}"));
    };
    for resource in &one.resources {
        let anything = one.not_resource || matches(resource, "arn:aws:iam::1:any");
        let kind = resource.rsplit(':').next().unwrap_or(resource);
        if anything {
            say(format!("allows {actions} with any document on any host"), resource);
        } else if let Some(name) = kind.strip_prefix("document/") {
            if name.starts_with('*') {
                say(format!("allows {actions} with any document"), resource);
            }
        } else if !tagged && kind.contains('*') {
            say(format!("allows {actions} on hosts whatever their tags"), resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::small::{found, only_these};

    #[test]
    fn a_pattern_is_judged_by_every_text_that_fits_it() {
        for good in ["^(a|b)$", "^$|^[a-z0-9.]+$", "^[A-Za-z0-9 .,:;/_#()@+=-]{0,200}$", "^\\[a$"] {
            assert_eq!(whole_and_safe(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("[a-z]+", "only searched"),
            ("^[a-z]+", "only searched"),
            ("^a|b$", "only searched"),
            ("^.*$", "may hold"),
            ("^[^a]$", "may hold"),
            ("^a'?$", "'\\''"),
            ("^[ -~]$", "may hold"),
            ("^(a|\\s)$", "'\\n'"),
            ("^[$", "no valid"),
        ] {
            let said = whole_and_safe(bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    fn template() -> String {
        let ours = OURS.iter().enumerate().map(|(i, name)| {
            format!(
                "  D{i}:
    Type: AWS::SSM::Document
    Properties:
      Name: {name}
      Content:
        parameters: {{ A: {{ type: String, allowedPattern: '^[a-z]+$' }} }}
"
            )
        });
        format!(
            "
Resources:
{}
  L: {{ Type: AWS::Logs::LogGroup }}
  Shell:
    Type: AWS::SSM::Document
    Properties:
      DocumentType: Session
      Content:
        sessionType: Standard_Stream
        inputs: {{ cloudWatchLogGroupName: !Ref L, cloudWatchEncryptionEnabled: true, kmsKeyId: k }}
  P:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument:
        Statement:
          - Effect: Allow
            Action: ssm:StartSession
            Resource: 'arn:aws:ec2:eu-west-1:111122223333:instance/*'
            Condition: {{ StringEquals: {{ 'ssm:resourceTag/Env': prod }} }}
          - Effect: Allow
            Action: ssm:Send*
            Resource: 'arn:aws:ssm:eu-west-1:111122223333:document/Palisade-Status'
",
            ours.collect::<String>()
        )
    }

    #[test]
    fn access_is_held_to_its_rule() {
        only_these(
            rules,
            "C03",
            &template(),
            &[
                ("Palisade-Status\n", "Status\n", "no template has the documents Palisade-Status"),
                ("allowedPattern: '^[a-z]+$'", "description: a", "takes anything for A"),
                ("'^[a-z]+$'", "'^[a-z]*'", "A is only searched"),
                ("!Ref L,", "'',", "does not record"),
                ("!Ref L,", "other,", "no group of the environment"),
                ("EncryptionEnabled: true", "EncryptionEnabled: false", "not encrypted"),
                ("kmsKeyId: k", "kmsKeyId: ''", "no key of ours"),
                ("Standard_Stream", "Port", "no document of recorded sessions"),
                ("StringEquals", "StringEqualsIfExists", "whatever their tags"),
                ("ssm:resourceTag/Env", "aws:SourceVpc", "whatever their tags"),
                ("document/Palisade-Status", "document/*", "with any document"),
                (
                    "'arn:aws:ssm:eu-west-1:111122223333:document/Palisade-Status'",
                    "'*'",
                    "any host",
                ),
            ],
        );
    }

    #[test]
    fn documents_may_belong_to_another_environment() {
        let parameter = "
Parameters: { AccountDocuments: { Type: String, Default: 'false' } }";
        let template = format!("{parameter}{}", template().replace("Palisade-Patch", "Other"));
        assert_eq!(found(rules(), "C03", &template), Vec::<String>::new());
    }
}
