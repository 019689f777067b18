//! Policies for commands of which not everything is known.
//!
//! A command that runs code, or that could not be understood, may do what no fact tells. To judge it, each policy is
//! derived into one that errs on the safe side:
//!
//! - A *forbid* that speaks of an object, schema or function of a target holds for the whole target, and so does one
//!   whose condition depends on the resource: what is unknown may be that very object.
//! - A *permit* whose condition depends on the resource does not count.
//! - For what code does on its way ([`Doubt::Commands`]) the same goes for conditions on the command (its verb, its WHERE,
//!   …): the code may run one that fits.
//! - Where nothing is known of the command ([`Doubt::Everything`]), a forbid of one action holds for all besides.
//! - Of a command that means a whole schema ([`Doubt::OfSchema`]) all that is in doubt is which of its objects it touches: a
//!   forbid that speaks of one holds for its schema.

use std::sync::Arc;

use cedar_policy::pst::{
    ActionConstraint, BinaryOp, Clause, Effect, EntityOrSlot, EntityType, EntityUID, Expr, Literal, Name,
    Policy, ResourceConstraint, StaticPolicy, Template, Var,
};

use crate::entities;

/// What is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doubt {
    /// Which objects of a schema it touches.
    OfSchema,
    /// Which objects it touches.
    Objects,
    /// Which commands it runs on the way, and what these touch.
    Commands,
    /// What it does at all.
    Everything,
}

impl Doubt {
    /// Whether more is in doubt than objects.
    const fn is_of_commands(self) -> bool {
        matches!(self, Self::Commands | Self::Everything)
    }
}

/// What policies look at besides the command itself; decides what a cached ruling may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LooksAt {
    pub time: bool,
    pub in_transaction: bool,
    pub client_addr: bool,
    pub approvals: bool,
}

impl LooksAt {
    pub(crate) const fn anything(self) -> bool {
        self.time || self.in_transaction || self.client_addr || self.approvals
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            time: self.time || other.time,
            in_transaction: self.in_transaction || other.in_transaction,
            client_addr: self.client_addr || other.client_addr,
            approvals: self.approvals || other.approvals,
        }
    }

    const EVERYTHING: Self = Self { time: true, in_transaction: true, client_addr: true, approvals: true };
}

/// What a policy looks at. Conservative: what is not recognised looks at everything.
pub(crate) fn looks_at(policy: &Template) -> LooksAt {
    policy.clauses().iter().map(looks_at_clause).fold(LooksAt::default(), LooksAt::and)
}

fn looks_at_clause(clause: &Clause) -> LooksAt {
    let mut found = LooksAt::default();
    visit(expression(clause), &mut |seen| {
        let more = match seen {
            Seen::Context(attribute) => match attribute {
                "hour" | "minute" | "weekday" => LooksAt { time: true, ..LooksAt::default() },
                "in_transaction" => LooksAt { in_transaction: true, ..LooksAt::default() },
                "client_addr" => LooksAt { client_addr: true, ..LooksAt::default() },
                "approvals" => LooksAt { approvals: true, ..LooksAt::default() },
                _ => LooksAt::default(),
            },
            Seen::Resource | Seen::Schema | Seen::Action => LooksAt::default(),
            Seen::WholeContext | Seen::Strange => LooksAt::EVERYTHING,
        };
        found = found.and(more);
    });
    found
}

/// The policy for commands in doubt; `None` if it does not count for them. Its id stays.
pub(crate) fn widened(policy: &Template, doubt: Doubt) -> Option<Template> {
    let forbids = policy.effect == Effect::Forbid;
    let mut clauses = Vec::new();
    for clause in policy.clauses() {
        if !depends(expression(clause), doubt) {
            clauses.push(clause.clone());
        } else if !forbids {
            return None;
        }
    }
    let mut wide = Template::new(
        policy.id.clone(),
        policy.effect,
        policy.principal.clone(),
        policy.action.clone(),
        policy.resource.clone(),
    );
    if forbids {
        wide.resource = match doubt {
            Doubt::OfSchema => with_its_schema(&policy.resource),
            Doubt::Objects | Doubt::Commands | Doubt::Everything => widened_resource(&policy.resource),
        };
        if doubt == Doubt::Everything {
            wide.action = ActionConstraint::Any;
        }
    }
    wide.try_with_clauses(clauses).ok()
}

/// A permit as it counts sessions, which is done as they begin: whatever it says of commands is left out, since whoever
/// enters may come to send one.
pub(crate) fn counting(policy: &Template) -> Option<Template> {
    let about_entering = |clause: &&Clause| {
        let looks_at = looks_at_clause(clause);
        !(depends(expression(clause), Doubt::Everything) || looks_at.in_transaction || looks_at.approvals)
    };
    let clauses: Vec<Clause> = policy.clauses().iter().filter(about_entering).cloned().collect();
    let count = Template::new(
        policy.id.clone(),
        policy.effect,
        policy.principal.clone(),
        policy.action.clone(),
        policy.resource.clone(),
    );
    count.try_with_clauses(clauses).ok()
}

/// The same policy again, as the library takes it.
pub(crate) fn compiled(policy: Template) -> Option<cedar_policy::Policy> {
    let policy = StaticPolicy::try_from(policy).ok()?;
    cedar_policy::Policy::from_pst(Policy::Static(policy)).ok()
}

fn widened_resource(resource: &ResourceConstraint) -> ResourceConstraint {
    let reference = match resource {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => return ResourceConstraint::Any,
        ResourceConstraint::Eq(reference)
        | ResourceConstraint::In(reference)
        | ResourceConstraint::IsIn(_, reference) => reference,
    };
    let EntityOrSlot::Entity(entity) = reference else { return ResourceConstraint::Any };
    match entity.ty.to_string().as_str() {
        "Target" | "Label" => ResourceConstraint::In(reference.clone()),
        _ => match (entities::target_of(&entity.eid), Name::unqualified("Target")) {
            (Some(target), Ok(ty)) => ResourceConstraint::Eq(EntityOrSlot::Entity(EntityUID {
                ty: EntityType::from_name(ty),
                eid: target.into(),
            })),
            _ => ResourceConstraint::Any,
        },
    }
}

/// What speaks of one object or function holds for its schema; all else is the same for every object of a schema.
fn with_its_schema(resource: &ResourceConstraint) -> ResourceConstraint {
    let (ResourceConstraint::Eq(EntityOrSlot::Entity(entity))
    | ResourceConstraint::In(EntityOrSlot::Entity(entity))
    | ResourceConstraint::IsIn(_, EntityOrSlot::Entity(entity))) = resource
    else {
        return resource.clone();
    };
    if !matches!(entity.ty.to_string().as_str(), "Object" | "Function") {
        return resource.clone();
    }
    match (entities::schema_in(&entity.eid), Name::unqualified("Schema")) {
        (Some(schema), Ok(ty)) => ResourceConstraint::In(EntityOrSlot::Entity(EntityUID {
            ty: EntityType::from_name(ty),
            eid: schema.into(),
        })),
        _ => resource.clone(),
    }
}

fn expression(clause: &Clause) -> &Arc<Expr> {
    match clause {
        Clause::When(expression) | Clause::Unless(expression) => expression,
    }
}

/// Whether a condition depends on what is in doubt.
fn depends(expression: &Arc<Expr>, doubt: Doubt) -> bool {
    let mut depends = false;
    visit(expression, &mut |seen| {
        depends |= match seen {
            Seen::Resource | Seen::Strange => true,
            Seen::Schema => doubt != Doubt::OfSchema,
            Seen::Action => doubt == Doubt::Everything,
            Seen::WholeContext => doubt.is_of_commands(),
            Seen::Context(attribute) => {
                doubt.is_of_commands()
                    && !matches!(
                        attribute,
                        "in_transaction"
                            | "client_addr"
                            | "on_behalf_of"
                            | "hour"
                            | "minute"
                            | "weekday"
                            | "approvals"
                    )
            }
        };
    });
    depends
}

/// Something that a condition looks at.
enum Seen<'a> {
    /// One attribute of the context.
    Context(&'a str),
    /// The context as a whole.
    WholeContext,
    /// The resource, in a way in which an object differs from its target.
    Resource,
    /// The resource, in a way that is the same for all objects of a schema.
    Schema,
    Action,
    /// A kind of expression that this code does not know.
    Strange,
}

/// Walks an expression without recursion: how deep it is nested is up to its author.
fn visit<'a>(expression: &'a Arc<Expr>, see: &mut dyn FnMut(Seen<'a>)) {
    let mut rest: Vec<&'a Expr> = vec![expression];
    while let Some(expression) = rest.pop() {
        match expression {
            Expr::Literal(_) | Expr::Var(Var::Principal) => {}
            Expr::Var(Var::Context) => see(Seen::WholeContext),
            Expr::Var(Var::Resource) => see(Seen::Resource),
            Expr::Var(Var::Action) => see(Seen::Action),
            Expr::GetAttr { expr, attr } => match &**expr {
                Expr::Var(Var::Context) => see(Seen::Context(attr)),
                // The same for an object as for its target.
                Expr::Var(Var::Resource) if same_for_target(attr) => {}
                inner => rest.push(inner),
            },
            Expr::HasAttr { expr, attrs } => match &**expr {
                Expr::Var(Var::Context) => see(Seen::Context(&attrs.head)),
                Expr::Var(Var::Resource) if same_for_target(&attrs.head) => {}
                inner => rest.push(inner),
            },
            Expr::BinaryOp { op, left, right } => {
                let of_resource = matches!(&**left, Expr::Var(Var::Resource));
                match op {
                    BinaryOp::HasTag | BinaryOp::GetTag if of_resource => {}
                    BinaryOp::In if of_resource && names_only(right, &["Target", "Label"]) => {}
                    BinaryOp::In if of_resource && names_only(right, &["Target", "Label", "Schema"]) => {
                        see(Seen::Schema);
                    }
                    _ => rest.push(left),
                }
                rest.push(right);
            }
            Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } => rest.push(expr),
            Expr::Is { expr, in_expr, .. } => {
                rest.push(expr);
                rest.extend(in_expr.as_deref());
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                rest.extend([&**cond, &**then_expr, &**else_expr]);
            }
            Expr::Set(elements) => rest.extend(elements.iter().map(AsRef::as_ref)),
            Expr::Record(fields) => rest.extend(fields.values().map(AsRef::as_ref)),
            _ => see(Seen::Strange),
        }
    }
}

/// Attributes of a resource that an object shares with its target.
fn same_for_target(attribute: &str) -> bool {
    matches!(attribute, "target" | "kind" | "role" | "database")
}

/// Whether an expression names entities of these types, and no others.
fn names_only(expression: &Expr, types: &[&str]) -> bool {
    match expression {
        Expr::Literal(Literal::EntityUID(entity)) => types.contains(&entity.ty.to_string().as_str()),
        Expr::Set(elements) => elements.iter().all(|element| names_only(element, types)),
        _ => false,
    }
}
