//! What a stack of the fake is and becomes, as CloudFormation writes it.

use std::collections::BTreeMap;

use super::{Refused, Stack, kinds};

impl Stack {
    pub(super) fn xml(&self, name: &str) -> String {
        let outputs: String = self
            .outputs
            .iter()
            .map(|(k, v)| {
                format!("<member><OutputKey>{k}</OutputKey><OutputValue>{v}</OutputValue></member>")
            })
            .collect();
        format!(
            "<member><StackName>{name}</StackName><StackId>{}</StackId>\
             <StackStatus>{}</StackStatus><StackStatusReason>{}</StackStatusReason>\
             <EnableTerminationProtection>{}</EnableTerminationProtection>\
             <Outputs>{outputs}</Outputs></member>",
            self.id, self.status, self.reason, self.protected
        )
    }

    /// Newest first.
    pub(super) fn events_xml(&self) -> Result<String, Refused> {
        let events = self.events.iter().rev().map(|[id, logical, kind, status, reason]| {
            format!(
                "<member><EventId>{id}</EventId><LogicalResourceId>{logical}</LogicalResourceId>\
                 <ResourceType>{kind}</ResourceType><ResourceStatus>{status}</ResourceStatus>\
                 <ResourceStatusReason>{reason}</ResourceStatusReason></member>"
            )
        });
        Ok(format!("<StackEvents>{}</StackEvents>", events.collect::<String>()))
    }

    pub(super) fn resources_xml(&self) -> Result<String, Refused> {
        let all = kinds(&self.template);
        let each = all.iter().map(|(logical, kind)| {
            format!(
                "<member><LogicalResourceId>{logical}</LogicalResourceId>\
                 <PhysicalResourceId>id-{logical}</PhysicalResourceId>\
                 <ResourceType>{kind}</ResourceType>\
                 <ResourceStatus>CREATE_COMPLETE</ResourceStatus></member>"
            )
        });
        let each: String = each.collect();
        Ok(format!("<StackResourceSummaries>{each}</StackResourceSummaries>"))
    }

    pub(super) fn template_xml(&self) -> Result<String, Refused> {
        let text = self.template.to_string().replace('&', "&amp;").replace('<', "&lt;");
        Ok(format!("<TemplateBody>{text}</TemplateBody>"))
    }

    /// What is under way ends, well or not.
    pub(super) fn end(&mut self, name: &str, failing: &BTreeMap<String, String>) {
        let doing = match self.status.as_str() {
            "CREATE_IN_PROGRESS" => "CREATE",
            "UPDATE_IN_PROGRESS" => "UPDATE",
            "DELETE_IN_PROGRESS" => "DELETE",
            _ => return,
        };
        let mut failed = false;
        for (logical, kind) in kinds(&self.template) {
            let reason = failing.get(&logical);
            failed |= reason.is_some();
            let (status, reason) = match (reason, failed) {
                (Some(reason), _) => ("FAILED", reason.clone()),
                (None, true) => ("FAILED", "Resource creation cancelled".to_owned()),
                (None, false) => ("COMPLETE", String::new()),
            };
            let id = format!("{name}-{}", self.events.len());
            self.events.push([id, logical, kind, format!("{doing}_{status}"), reason]);
        }
        self.status = match (doing, failed) {
            ("CREATE", true) => "ROLLBACK_COMPLETE".to_owned(),
            ("UPDATE", true) => "UPDATE_ROLLBACK_COMPLETE".to_owned(),
            (doing, true) => format!("{doing}_FAILED"),
            (doing, false) => format!("{doing}_COMPLETE"),
        };
        let id = format!("{name}-{}", self.events.len());
        let own = "AWS::CloudFormation::Stack".to_owned();
        self.events.push([id, name.to_owned(), own, self.status.clone(), String::new()]);
        let outputs = self.template["Outputs"].as_object().cloned().unwrap_or_default();
        for key in outputs.keys() {
            self.outputs.entry(key.clone()).or_insert_with(|| format!("id-of-{key}"));
        }
    }
}
