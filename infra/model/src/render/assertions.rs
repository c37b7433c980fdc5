//! The section `Rules`: which parameters go together. CloudFormation refuses a stack that breaks one, so
//! an environment that would is a mistake.

use super::context::Context;
use crate::{
    mistake::Mistake,
    value::{Entry, Value},
};

impl<'a> Context<'_, 'a> {
    /// Holds every rule against the parameters.
    ///
    /// # Errors
    /// The first assertion that is not true.
    pub(super) fn keep_rules(&mut self) -> Result<(), Mistake> {
        self.section("Rules").iter().try_for_each(|rule| self.keep_rule(rule))
    }

    fn keep_rule(&mut self, rule: &'a Entry) -> Result<(), Mistake> {
        if let Some(condition) = rule.value.get("RuleCondition")
            && !self.truth(condition)?
        {
            return Ok(());
        }
        for assertion in rule.value.get("Assertions").map(Value::items).unwrap_or_default() {
            let wanted = assertion.get("Assert");
            let wanted = wanted.ok_or_else(|| Mistake::new(&assertion.at, "no `Assert`"))?;
            if !self.truth(wanted)? {
                let why = assertion.get("AssertDescription").and_then(Value::as_str);
                let what = format!("rule {}: {}", rule.key, why.unwrap_or("it is broken"));
                return Err(Mistake::new(&assertion.at, what));
            }
        }
        Ok(())
    }
}
