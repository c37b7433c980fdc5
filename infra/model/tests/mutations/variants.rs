//! Environments and variants in which every template of the project is in use.

use palisade_infra_model::{Estate, Project, render};

/// An environment and the parameters that make the variant of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) env: &'static str,
    pub(crate) with: &'static [(&'static str, &'static str)],
}

/// Together they have every stack, and both sides of every choice.
pub(crate) const VARIANTS: &[Variant] = &[
    Variant { env: "prod", with: &[] },
    Variant {
        env: "prod",
        with: &[("OriginKind", "ecs"), ("AppPort", "8000"), ("BastionMode", "ssm")],
    },
    Variant { env: "prod", with: &[("AlbExposure", "internet-facing"), ("BastionMode", "none")] },
    Variant {
        env: "prod",
        with: &[
            ("AuditBaseline", "true"),
            ("NewRelic", "true"),
            ("NewRelicAccountId", "1234567"),
            (
                "NewRelicSecretArn",
                "arn:aws:secretsmanager:eu-west-1:111122223333:secret:new-relic-a1b2c3",
            ),
        ],
    },
    Variant { env: "dev", with: &[("BastionMode", "public"), ("AdminCidr1", "203.0.113.0/28")] },
];

impl Variant {
    /// The environment of some sources in this variant, or why it cannot be rendered.
    pub(crate) fn render(&self, project: &Project) -> Result<Estate, String> {
        let env = project.environments.get(self.env);
        let mut env = env.ok_or_else(|| format!("no environment {}", self.env))?.clone();
        for (name, value) in self.with {
            let at = env.at.clone();
            env.parameters
                .insert((*name).to_owned(), palisade_infra_model::Value::text(&at, *value));
        }
        render(project, &env).map_err(|e| format!("{self:?}:\n{e}"))
    }
}

/// Whether two estates are the same but for places.
pub(crate) fn same(a: &Estate, b: &Estate) -> bool {
    let all = |e: &Estate| e.all().map(|(_, r)| (r.id.clone(), r.kind.clone())).collect::<Vec<_>>();
    all(a) == all(b)
        && a.all().zip(b.all()).all(|((_, x), (_, y))| {
            x.properties == y.properties
                && x.extra == y.extra
                && (&x.deletion_policy, &x.update_replace_policy, &x.depends_on)
                    == (&y.deletion_policy, &y.update_replace_policy, &y.depends_on)
        })
}
