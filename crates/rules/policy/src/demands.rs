//! What a command demands: actions, each on a resource, all of which have to be permitted.
//!
//! | command | demands |
//! |---|---|
//! | class `session` | `connect` on the target: who may be there may arrange its own session |
//! | names objects | `read`, `write` or `define` on each, as it uses it |
//! | means a whole schema (DROP SCHEMA, GRANT … IN SCHEMA) | the same on everything in it: whatever is forbidden of any of its objects is forbidden |
//! | means what nobody can tell (DROP OWNED) | the same on every object of the target |
//! | its class is worse than that | `write`, `define`: on each object, or on the target if functions do it or nothing is named; all others: on the target |
//! | calls a function that does more than compute | what the function can do, on the target; and `call` on the function, which needs no permit but can be forbidden |
//! | verb `FORWARD` | `forward` on each object, or on the target if nothing is named |
//! | class `execute` | `execute` on the target; and whatever is forbidden anywhere on the target, since code can do anything |
//! | class `unknown` | every action on the target; and whatever is forbidden anywhere on it, whatever the condition on commands |

use vocabulary::{Class, Effect, Facts, ObjectUse, TargetKind, Usage};

/// What policies permit and forbid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Action {
    Connect,
    Read,
    Write,
    Define,
    Administer,
    Execute,
    Transfer,
    Forward,
    Call,
}

impl Action {
    /// All that a command of which nothing is known may do.
    pub(crate) const DANGEROUS: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Define,
        Self::Administer,
        Self::Execute,
        Self::Transfer,
        Self::Forward,
        Self::Call,
    ];

    /// What code may do at the target besides running.
    const BY_CODE: [Self; 5] = [Self::Read, Self::Write, Self::Define, Self::Administer, Self::Call];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Read => "read",
            Self::Write => "write",
            Self::Define => "define",
            Self::Administer => "administer",
            Self::Execute => "execute",
            Self::Transfer => "transfer",
            Self::Forward => "forward",
            Self::Call => "call",
        }
    }

    /// Groups of actions that it is in, as the schema has them.
    pub(crate) const fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Connect => &[],
            Self::Read => &["command"],
            _ => &["change", "command"],
        }
    }

    const fn of_usage(usage: Usage) -> Self {
        match usage {
            Usage::Read => Self::Read,
            Usage::Write => Self::Write,
            Usage::Define => Self::Define,
        }
    }
}

/// What an action is done to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Resource<'a> {
    Target,
    Object(&'a str),
    /// A schema with all that it holds.
    Schema(&'a str),
    Function(&'a str, Effect),
}

/// By which policies a demand is judged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Measure {
    /// As they are written.
    Written,
    /// As they are written, but nothing has to permit it.
    ForbidsOnly,
    /// It touches any object of a schema.
    AnyOfSchema,
    /// It may touch any object of the target.
    AnyObject,
    /// Code may do it, to any object and by any command; nothing has to permit it.
    ByCode,
    /// It may do anything.
    Anything,
}

impl Measure {
    /// Whether some policy has to permit it.
    pub(crate) const fn needs_permit(self) -> bool {
        matches!(self, Self::Written | Self::AnyOfSchema | Self::AnyObject | Self::Anything)
    }
}

/// One thing that has to be permitted, or must at least not be forbidden.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Demand<'a> {
    pub measure: Measure,
    pub action: Action,
    pub resource: Resource<'a>,
}

/// All that a command demands, each once.
pub(crate) fn of<'a>(facts: &'a Facts, kind: TargetKind) -> Vec<Demand<'a>> {
    let on_target = |measure, action| Demand { measure, action, resource: Resource::Target };
    match facts.class {
        Class::Unknown => {
            return Action::DANGEROUS.map(|action| on_target(Measure::Anything, action)).to_vec();
        }
        Class::Session => return vec![on_target(Measure::Written, Action::Connect)],
        Class::Transfer if facts.verb == FORWARD => {
            let to = |object: &'a ObjectUse| Demand {
                measure: Measure::Written,
                action: Action::Forward,
                resource: Resource::Object(&object.name),
            };
            return match facts.objects.as_slice() {
                [] => vec![on_target(Measure::Written, Action::Forward)],
                objects => objects.iter().map(to).collect(),
            };
        }
        _ => {}
    }
    let mut demands: Vec<Demand<'_>> = Vec::with_capacity(facts.objects.len() + 2);
    for object in &facts.objects {
        let action = Action::of_usage(object.usage);
        demands.push(if let Some(schema) = whole_schema(object, kind, &facts.verb) {
            Demand { measure: Measure::AnyOfSchema, action, resource: Resource::Schema(schema) }
        } else if is_certain(object, kind, &facts.verb) {
            Demand { measure: Measure::Written, action, resource: Resource::Object(&object.name) }
        } else {
            on_target(Measure::AnyObject, action)
        });
    }
    let mut functions_do_it = false;
    for function in &facts.functions {
        let Some(action) = by_function(function.effect) else { continue };
        functions_do_it = true;
        demands.push(on_target(Measure::Written, action));
        demands.push(Demand {
            measure: Measure::ForbidsOnly,
            action: Action::Call,
            resource: Resource::Function(&function.name, function.effect),
        });
    }
    let by_class = match facts.class {
        Class::Transfer => Action::Transfer,
        Class::Write => Action::Write,
        Class::Define => Action::Define,
        Class::Administer => Action::Administer,
        Class::Execute => Action::Execute,
        Class::Read | Class::Session | Class::Unknown => Action::Read,
    };
    if by_class == Action::Execute {
        let code = Action::BY_CODE.map(|action| on_target(Measure::ByCode, action));
        demands.extend(code);
        demands.push(on_target(Measure::AnyObject, Action::Execute));
    } else if !demands.iter().any(|demand| demand.action == by_class) {
        let rows_or_definitions = matches!(by_class, Action::Write | Action::Define);
        if rows_or_definitions && !functions_do_it && !facts.objects.is_empty() {
            let named: Vec<_> = demands.iter().map(|demand| Demand { action: by_class, ..*demand }).collect();
            demands.extend(named);
        } else {
            demands.push(on_target(Measure::Written, by_class));
        }
    }
    demands.sort_unstable();
    demands.dedup();
    demands
}

/// The verb by which protocols say that a connection is to be forwarded.
const FORWARD: &str = "FORWARD";

/// In an object's place: all there is, or all of a schema before it.
const EVERYTHING: &str = "*";

/// The schema of PostgreSQL's that is meant with all that it holds: by its own name in a statement about schemas, by
/// `schema.*` in any other.
fn whole_schema<'a>(object: &'a ObjectUse, kind: TargetKind, verb: &str) -> Option<&'a str> {
    if kind != TargetKind::Postgres {
        return None;
    }
    match schema_of(&object.name) {
        Some(schema) => {
            let rest = object.name.get(schema.len() + 1..);
            (rest == Some(EVERYTHING)).then_some(schema)
        }
        None => {
            let of_schemas = object.usage == Usage::Define && verb.split(' ').any(|word| word == "SCHEMA");
            (of_schemas && object.name != EVERYTHING).then_some(&object.name)
        }
    }
}

/// Whether an object's name is the whole one. Where the search path is not known, what lives in a schema of PostgreSQL's
/// has none; roles, databases and their like never have.
fn is_certain(object: &ObjectUse, kind: TargetKind, verb: &str) -> bool {
    const WITHOUT_SCHEMA: [&str; 12] = [
        "ROLE",
        "USER",
        "GROUP",
        "DATABASE",
        "TABLESPACE",
        "EXTENSION",
        "SERVER",
        "WRAPPER",
        "LANGUAGE",
        "PUBLICATION",
        "SUBSCRIPTION",
        "METHOD",
    ];
    let lives_in_none = || {
        let mut words = verb.split(' ');
        verb == "CREATE EVENT TRIGGER" || words.any(|word| WITHOUT_SCHEMA.contains(&word))
    };
    kind != TargetKind::Postgres
        || schema_of(&object.name).is_some()
        || (object.usage == Usage::Define && object.name != EVERYTHING && lives_in_none())
}

/// What has to be permitted on the target for a function that does more than compute.
const fn by_function(effect: Effect) -> Option<Action> {
    match effect {
        Effect::Pure | Effect::Session => None,
        Effect::Write => Some(Action::Write),
        Effect::File | Effect::Administer => Some(Action::Administer),
        Effect::Network | Effect::Code | Effect::Unknown => Some(Action::Execute),
    }
}

/// The schema in `schema.name`, as the name writes it; a part that holds a dot is double-quoted.
pub(crate) fn schema_of(name: &str) -> Option<&str> {
    let mut quoted = false;
    for (place, c) in name.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => return name.get(..place),
            _ => {}
        }
    }
    None
}
