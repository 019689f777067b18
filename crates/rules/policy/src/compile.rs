//! From a policy's text to what decides: parsed, validated strictly, and derived for commands in doubt.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::pst::{ActionConstraint, Template};
use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;
use vocabulary::Name;

use crate::annotations::{self, Notes};
use crate::entities::Types;
use crate::error::{PolicyError, Problem};
use crate::widen::{self, Doubt, LooksAt};

/// What policies may speak of; see the file.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// Longest text of a policy, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Most policies in one text: every one of them is looked at for each decision that is not cached.
pub const MAX_POLICIES: usize = 1_000;

static VALIDATOR: LazyLock<Result<Validator, String>> = LazyLock::new(|| {
    Schema::from_cedarschema_str(SCHEMA)
        .map(|(schema, _)| Validator::new(schema))
        .map_err(|error| error.to_string())
});

/// Policies apart by what a match means.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    /// Permits, and forbids that nobody can lift.
    pub main: PolicySet,
    /// Forbids that a review lifts.
    pub reviews: PolicySet,
}

/// A policy as it decides.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub types: Types,
    /// As written.
    pub written: Sets,
    /// For commands that touch any object of a schema.
    pub any_of_schema: Sets,
    /// For commands that may touch any object.
    pub any_object: Sets,
    /// For what code may do on its way.
    pub by_code: Sets,
    /// For commands of which nothing is known.
    pub anything: Sets,
    /// Permits that say how many sessions there may be at once, as they count those.
    pub sessions: PolicySet,
    pub notes: HashMap<PolicyId, Notes>,
    /// How many approvals of a group its policies ask for at most.
    pub thresholds: BTreeMap<Name, u8>,
    pub looks_at: LooksAt,
    /// Set if every command gets the same: all policies permit everything unconditionally.
    pub permits_all: bool,
    pub warnings: Vec<Problem>,
}

/// Most operators and brackets in one policy: each can nest an expression one deeper, and Cedar walks expressions by
/// recursion. Elements of sets don't count.
const MAX_NESTING: usize = 256;

/// Where a policy exceeds [`MAX_NESTING`].
fn too_nested(source: &str) -> Option<usize> {
    let mut nesting = 0;
    let mut letters = source.char_indices().peekable();
    let mut word = 0;
    while let Some((place, letter)) = letters.next() {
        if letter.is_alphanumeric() || letter == '_' {
            continue;
        }
        if matches!(source.get(word..place), Some("if" | "in" | "has" | "like" | "is")) {
            nesting += 1;
        }
        word = place + letter.len_utf8();
        match letter {
            '"' => {
                let mut escaped = false;
                for (end, letter) in letters.by_ref() {
                    word = end + letter.len_utf8();
                    if letter == '"' && !escaped {
                        break;
                    }
                    escaped = letter == '\\' && !escaped;
                }
            }
            '/' if letters.peek().is_some_and(|(_, next)| *next == '/') => {
                for (end, letter) in letters.by_ref() {
                    word = end + letter.len_utf8();
                    if letter == '\n' {
                        break;
                    }
                }
            }
            ';' => nesting = 0,
            '(' | '[' | '{' | '.' | '!' | '=' | '<' | '>' | '&' | '|' | '+' | '-' | '*' | '?' => nesting += 1,
            _ => {}
        }
        if nesting > MAX_NESTING {
            return Some(place);
        }
    }
    None
}

/// Compiles a text, or finds everything that is wrong with it.
pub(crate) fn compile(source: &str) -> Result<Compiled, PolicyError> {
    if source.len() > MAX_BYTES {
        let what = format!("the policy is longer than {MAX_BYTES} bytes");
        return Err(problems(vec![at(source, 0, what, "split it, or use groups and labels")]));
    }
    if let Some(place) = too_nested(source) {
        let what = format!("a policy has more than {MAX_NESTING} operators and brackets");
        return Err(problems(vec![at(
            source,
            place,
            what,
            "split it into several policies, or use sets and groups",
        )]));
    }
    let parsed = PolicySet::from_str(source)
        .map_err(|errors| problems(errors.iter().map(|error| diagnosed(source, error, 0)).collect()))?;
    let mut found: Vec<Problem> = Vec::new();
    for template in parsed.templates() {
        let place = source.find("?principal").or_else(|| source.find("?resource")).unwrap_or_default();
        let what = format!("policy `{}` has a slot, which nothing fills", template.id());
        found.push(at(source, place, what, "write the principal or resource itself"));
    }
    let validator = match &*VALIDATOR {
        Ok(validator) => validator,
        Err(error) => {
            let what = format!("the gateway's own policy schema can't be read: {error}");
            return Err(problems(vec![at(
                source,
                0,
                what,
                "this is a fault of the gateway; please report it",
            )]));
        }
    };
    let mut policies: Vec<&cedar_policy::Policy> = parsed.policies().collect();
    policies.sort_by_key(|policy| number(policy.id()));
    if policies.len() > MAX_POLICIES {
        let what = format!("there are more than {MAX_POLICIES} policies");
        found.push(at(source, 0, what, "use groups and labels to say the same with fewer"));
        return Err(problems(found));
    }
    let places = places(source, &policies);
    let validated = validator.validate(&parsed, ValidationMode::Strict);
    for error in validated.validation_errors() {
        found.push(diagnosed(source, error, place_of(&places, error.policy_id())));
    }
    let mut warnings: Vec<Problem> = validated
        .validation_warnings()
        .map(|warning| diagnosed(source, warning, place_of(&places, warning.policy_id())))
        .collect();
    if policies.is_empty() {
        let what = "there is no policy in it, so everything is refused".to_owned();
        warnings.push(at(source, 0, what, "write a permit; `locked` refuses everything on purpose"));
    }
    let mut parts = Parts::default();
    for (policy, place) in policies.iter().zip(&places) {
        if let Err(wrong) = parts.take(policy) {
            found.extend(wrong.into_iter().map(|wrong| at(source, place.1, wrong.what, &wrong.advice)));
        }
    }
    if !found.is_empty() {
        return Err(problems(found));
    }
    parts.compiled(each_place_once(warnings)).ok_or_else(|| {
        let advice = "this is a fault of the gateway; please report it";
        problems(vec![at(source, 0, "the policy can't be compiled".to_owned(), advice)])
    })
}

#[derive(Default)]
struct Parts {
    templates: Vec<(Template, Notes)>,
    ids: HashSet<String>,
}

impl Parts {
    fn take(&mut self, policy: &cedar_policy::Policy) -> Result<(), Vec<annotations::Wrong>> {
        let (notes, mut wrong) = annotations::read(policy.effect(), policy.annotations());
        let mut object = |what: String, advice: &str| {
            wrong.push(annotations::Wrong { what, advice: advice.to_owned() });
        };
        let id = notes.id.clone().unwrap_or_else(|| policy.id().to_string());
        if !self.ids.insert(id.clone()) {
            object(format!("there are two policies `{id}`"), "give each an @id of its own");
        }
        match policy.to_pst() {
            Ok(parsed) => {
                let body = parsed.body().clone().with_id(id.as_str().into());
                if notes.review.is_some() && names_connect(&body) {
                    object(
                        "connecting can't wait for a review".to_owned(),
                        "leave @review out to refuse it, or name other actions",
                    );
                }
                if notes.budget.sessions.is_some() && !may_be_of_connecting(&body) {
                    object(
                        "@sessions counts sessions as they begin, and this permit can't be one of connecting"
                            .to_owned(),
                        "write it before a permit whose action is open or names Action::\"connect\", and whose resource is open, a target or a label",
                    );
                }
                self.templates.push((body, notes));
            }
            Err(error) => object(format!("this can't be understood: {error}"), "write it in another way"),
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn compiled(self, warnings: Vec<Problem>) -> Option<Compiled> {
        let mut compiled = Compiled {
            types: Types::new()?,
            written: Sets::default(),
            any_of_schema: Sets::default(),
            any_object: Sets::default(),
            by_code: Sets::default(),
            anything: Sets::default(),
            sessions: PolicySet::new(),
            notes: HashMap::new(),
            thresholds: BTreeMap::new(),
            looks_at: LooksAt::default(),
            permits_all: !self.templates.is_empty(),
            warnings,
        };
        for (template, notes) in self.templates {
            compiled.looks_at = compiled.looks_at.and(widen::looks_at(&template));
            compiled.permits_all &= permits_all(&template);
            if let Some(review) = &notes.review {
                let threshold = compiled.thresholds.entry(review.group.clone()).or_default();
                *threshold = review.approvals.max(*threshold);
            }
            let lifted = notes.review.is_some();
            let put = |sets: &mut Sets, template: Template| -> Option<()> {
                let set = if lifted { &mut sets.reviews } else { &mut sets.main };
                set.add(widen::compiled(template)?).ok()
            };
            for (sets, doubt) in [
                (&mut compiled.any_of_schema, Doubt::OfSchema),
                (&mut compiled.any_object, Doubt::Objects),
                (&mut compiled.by_code, Doubt::Commands),
                (&mut compiled.anything, Doubt::Everything),
            ] {
                if let Some(wide) = widen::widened(&template, doubt) {
                    put(sets, wide)?;
                }
            }
            if notes.budget.sessions.is_some() {
                compiled.sessions.add(widen::compiled(widen::counting(&template)?)?).ok()?;
            }
            compiled.notes.insert(PolicyId::new(&template.id.0), notes);
            put(&mut compiled.written, template)?;
        }
        Some(compiled)
    }
}

/// Whether it is a plain `permit (principal, action, resource);`
fn permits_all(policy: &Template) -> bool {
    use cedar_policy::pst::{Effect, PrincipalConstraint, ResourceConstraint};
    policy.effect == Effect::Permit
        && policy.principal == PrincipalConstraint::Any
        && policy.action == ActionConstraint::Any
        && policy.resource == ResourceConstraint::Any
        && policy.clauses().is_empty()
}

fn names_connect(policy: &Template) -> bool {
    let connect = |entity: &cedar_policy::pst::EntityUID| entity.eid == "connect";
    match &policy.action {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(entity) => connect(entity),
        ActionConstraint::In(entities) => entities.iter().any(connect),
    }
}

/// Whether a policy can match somebody who enters a target.
fn may_be_of_connecting(policy: &Template) -> bool {
    use cedar_policy::pst::{EntityOrSlot, EntityType, ResourceConstraint};
    let is_target = |ty: &EntityType| ty.to_string() == "Target";
    let holds_targets = |reference: &EntityOrSlot| match reference {
        EntityOrSlot::Entity(entity) => is_target(&entity.ty) || entity.ty.to_string() == "Label",
        EntityOrSlot::Slot(_) => true,
    };
    let resource = match &policy.resource {
        ResourceConstraint::Any => true,
        ResourceConstraint::Is(ty) => is_target(ty),
        ResourceConstraint::Eq(reference) | ResourceConstraint::In(reference) => holds_targets(reference),
        ResourceConstraint::IsIn(ty, reference) => is_target(ty) && holds_targets(reference),
    };
    resource && (policy.action == ActionConstraint::Any || names_connect(policy))
}

fn problems(problems: Vec<Problem>) -> PolicyError {
    PolicyError { problems: each_place_once(problems) }
}

/// Cedar says the same of every action that a condition is checked with.
fn each_place_once(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort();
    problems.dedup_by(|one, other| (one.line, one.column) == (other.line, other.column));
    problems
}

/// Cedar numbers policies `policy0`, `policy1`, … in the order of the text.
fn number(id: &PolicyId) -> u64 {
    id.to_string().trim_start_matches("policy").parse().unwrap_or(u64::MAX)
}

/// Where each policy begins in the text.
fn places(source: &str, policies: &[&cedar_policy::Policy]) -> Vec<(PolicyId, usize)> {
    let mut from = 0;
    policies
        .iter()
        .map(|policy| {
            let text = policy.to_cedar().unwrap_or_default();
            let place =
                source.get(from..).and_then(|rest| rest.find(&text)).map_or(from, |found| from + found);
            from = place + text.len();
            (policy.id().clone(), place)
        })
        .collect()
}

fn place_of(places: &[(PolicyId, usize)], id: &PolicyId) -> usize {
    places.iter().find(|(known, _)| known == id).map_or(0, |(_, place)| *place)
}

fn at(source: &str, offset: usize, what: String, advice: &str) -> Problem {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Problem { line: number(line), column: number(column), what, advice: advice.to_owned() }
}

/// A complaint of Cedar's, in our form.
fn diagnosed(source: &str, diagnostic: &(impl Diagnostic + ?Sized), otherwise: usize) -> Problem {
    let labels: Vec<miette::LabeledSpan> = diagnostic.labels().map(Iterator::collect).unwrap_or_default();
    let place = labels.first().map_or(otherwise, miette::LabeledSpan::offset);
    let mut what = sentence(&diagnostic.to_string());
    if let Some(label) = labels.first().and_then(miette::LabeledSpan::label).filter(|label| !label.is_empty())
    {
        what = format!("{what} ({})", one_line(label));
    }
    let advice = match diagnostic.help() {
        Some(help) => sentence(&help.to_string()),
        None => "docs/guides/policy.md shows what policies may say".to_owned(),
    };
    at(source, place, what, &advice)
}

/// One line, without "for policy `policy3`, ": the place says which.
fn sentence(text: &str) -> String {
    let text = one_line(text);
    match text.split_once("`, ").filter(|(start, _)| start.starts_with("for policy `")) {
        Some((_, rest)) => rest.to_owned(),
        None => text,
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
