//! What a policy says of a text, without running it: the same facts and the same decision as on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use classify::postgres::{NOTHING_PREPARED, Parsed, Settings};
use policy::{Approval, Effect, Policy, Ruling, Scene, TargetView};
use vocabulary::{
    Class, CredentialId, Facts, Name, PrincipalId, PrincipalKind, ProvenBy, TargetKind, Timestamp, Who,
};

use crate::types::policy::{BudgetView, Explained, ObligationsView, ReviewNeeds, WordsView};

/// Who asks, where and when, as far as policies look at it.
#[derive(Clone, Debug)]
pub struct Situation {
    /// Agent, person or service.
    pub kind: PrincipalKind,
    /// Its name.
    pub principal: Name,
    /// The person it acts for.
    pub on_behalf_of: Option<Name>,
    /// Its groups.
    pub groups: Vec<Name>,
    /// The groups of the person it acts for.
    pub person_groups: Vec<Name>,
    /// The target's name.
    pub target: Name,
    /// The protocol it speaks.
    pub target_kind: TargetKind,
    /// The role that the gateway logs in as.
    pub role: String,
    /// The database that the session is in.
    pub database: Option<String>,
    /// Whether that is another one than the target's own.
    pub other_database: bool,
    /// The target's labels.
    pub labels: BTreeMap<String, String>,
    /// What the target allows.
    pub allow: BTreeSet<String>,
    /// Where the client is.
    pub from: IpAddr,
    /// Whether a transaction is under way.
    pub in_transaction: bool,
    /// The time.
    pub now: Timestamp,
    /// Groups that have approved, each as often as is asked.
    pub approved_by: Vec<Name>,
}

impl Situation {
    /// What a policy says of whether it may connect.
    #[must_use]
    pub fn connect(&self, policy: &Policy) -> Explained {
        let facts = Facts::plain("CONNECT", Class::Session);
        let ruling = self.with_scene(false, |scene| policy.connect(scene));
        explained(String::new(), &facts, None, ruling)
    }

    /// What a policy says of each statement of a text, as if it were sent in one message.
    #[must_use]
    pub fn explain(&self, policy: &Policy, text: &str) -> Vec<Explained> {
        let mut in_transaction = self.in_transaction;
        statements(self.target_kind, text)
            .into_iter()
            .map(|(statement, facts, not_understood)| {
                let ruling = self.with_scene(in_transaction, |scene| policy.decide(scene, &facts));
                in_transaction = facts.leaves_transaction(in_transaction);
                explained(statement, &facts, not_understood, ruling)
            })
            .collect()
    }

    fn with_scene<T>(&self, in_transaction: bool, judge: impl FnOnce(&Scene<'_>) -> T) -> T {
        // Nobody logs in for this, so there is no credential to name.
        let who = Who {
            id: PrincipalId::from_bytes([0; 16]),
            kind: self.kind,
            name: self.principal.clone(),
            on_behalf_of: self.on_behalf_of.clone(),
            credential: CredentialId::from_bytes([0; 16]),
            proven_by: ProvenBy::ControlSocket,
        };
        let approvals = self.approvals();
        judge(&Scene {
            who: &who,
            groups: &self.groups,
            person_groups: &self.person_groups,
            target: TargetView {
                name: &self.target,
                kind: self.target_kind,
                role: &self.role,
                database: self.database.as_deref(),
                other_database: self.other_database,
                labels: &self.labels,
                allow: &self.allow,
            },
            client_addr: &self.from.to_string(),
            in_transaction,
            now: self.now,
            approvals: &approvals,
        })
    }

    /// As many people of each group as any policy can ask for.
    fn approvals(&self) -> Vec<Approval> {
        let people = (1..=policy::MAX_APPROVALS).filter_map(|number| format!("person-{number}").parse().ok());
        let people: Vec<Name> = people.collect();
        self.approved_by
            .iter()
            .flat_map(|group| people.iter().map(|by| Approval { group: group.clone(), by: by.clone() }))
            .collect()
    }
}

/// The statements of a text with their facts, and why it is not understood where it is not.
fn statements(kind: TargetKind, text: &str) -> Vec<(String, Arc<Facts>, Option<String>)> {
    match kind {
        TargetKind::Postgres => sql(text),
        TargetKind::Ssh => {
            let understood =
                classify::shell::understand_with(text.as_bytes(), classify::shell::Terminal::Absent);
            let reason = understood.reason.map(|reason| reason.to_string());
            vec![(text.to_owned(), Arc::new(understood.facts), reason)]
        }
    }
}

fn sql(text: &str) -> Vec<(String, Arc<Facts>, Option<String>)> {
    match classify::postgres::classify(text.as_bytes(), &Settings::default(), NOTHING_PREPARED) {
        Parsed::Empty => vec![(text.to_owned(), Arc::new(Facts::plain("EMPTY", Class::Session)), None)],
        Parsed::Unknown(reason, facts) => vec![(text.to_owned(), facts, Some(reason.to_string()))],
        Parsed::Statements(statements) => statements
            .into_iter()
            .map(|one| (text.get(one.span).unwrap_or(text).to_owned(), one.facts, None))
            .collect(),
    }
}

fn explained(statement: String, facts: &Facts, not_understood: Option<String>, ruling: Ruling) -> Explained {
    let Ruling { effect, decision, words, obligations, budget, .. } = ruling;
    let (effect, review) = match effect {
        Effect::Permit => ("permit", None),
        Effect::Forbid => ("forbid", None),
        Effect::Review(needs) => {
            let hold_for_ms = needs.hold_for.and_then(|hold| u64::try_from(hold.as_millis()).ok());
            let policy::Requirement { groups, approvals, note_required, .. } = needs;
            ("review", Some(ReviewNeeds { groups, approvals, note_required, hold_for_ms }))
        }
    };
    Explained {
        statement,
        class: facts.class,
        verb: facts.verb.clone(),
        objects: facts.objects.clone(),
        functions: facts.functions.clone(),
        settings: facts.settings.clone(),
        has_where: facts.has_where,
        has_limit: facts.has_limit,
        lasting: facts.outlives_rollback,
        not_understood,
        effect: effect.to_owned(),
        decision,
        review,
        obligations: ObligationsView {
            limit_rows: obligations.limit_rows,
            timeout_ms: obligations.timeout_ms,
            read_only: obligations.read_only,
            record_rows_bytes: obligations.record_rows,
        },
        budget: BudgetView {
            commands_per_minute: budget.commands_per_minute,
            rows_per_hour: budget.rows_per_hour,
            sessions: budget.sessions,
        },
        words: WordsView { reason: words.reason, approvers: words.approvers, advice: words.advice },
    }
}
