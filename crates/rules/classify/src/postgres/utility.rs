//! Statements that define objects, that administer, and that maintain.

use std::borrow::Cow;

use pg_raw_parse::raw::{
    AlterTableType, GrantTargetType, ObjectType, PublicationObjSpecType, ReindexObjectType, RoleStmtType,
};
use pg_raw_parse::{Node, nodes};
use vocabulary::{Class, ObjectUse, Usage};

use super::names::{EVERYTHING, everything_in, joined};
use super::walk::{Walk, strings};

type Verb = Cow<'static, str>;

impl<'a> Walk<'a, '_> {
    /// If the node is a statement of these kinds: notes what it does and returns its verb.
    pub(super) fn utility(&mut self, node: Node<'a>, scope: usize) -> Option<Verb> {
        if let Some(verb) = self.definition(node, scope) {
            self.raise(Class::Define);
            return Some(verb);
        }
        if let Some(verb) = self.maintenance(node) {
            return Some(verb);
        }
        let verb = self.administration(node, scope)?;
        self.raise(Class::Administer);
        Some(verb)
    }

    fn defines(&mut self, relation: Option<&'a nodes::RangeVar>) {
        if let Some(relation) = relation {
            self.relation(relation, Usage::Define);
        }
    }

    /// Defines an object that lives in a schema.
    fn defines_parts(&mut self, parts: &[&str]) {
        if !parts.is_empty() {
            let objects = &mut self.found.objects;
            self.env.path.objects(parts, |name| objects.push(ObjectUse { name, usage: Usage::Define }));
        }
    }

    /// Defines an object that lives in none.
    fn defines_name(&mut self, name: Option<&str>) {
        if let Some(name) = name {
            self.object(joined(&[name]), Usage::Define);
        }
    }

    /// Does something to all that a schema holds.
    fn uses_schema(&mut self, schema: Option<&str>, usage: Usage) {
        if let Some(schema) = schema {
            self.object(everything_in(schema), usage);
        }
    }

    /// Tables, views, indexes, sequences, functions, types and what hangs on them.
    fn definition(&mut self, node: Node<'a>, scope: usize) -> Option<Verb> {
        let verb: Verb = match node {
            Node::CreateStmt(create) => {
                self.defines(create.relation());
                self.new_table(create, scope);
                "CREATE TABLE".into()
            }
            Node::IndexStmt(index) => {
                if let (Some(name), Some(table)) = (index.idxname(), index.relation()) {
                    // An index lives in its table's schema.
                    match table.schemaname() {
                        Some(schema) => self.defines_parts(&[schema, name]),
                        None => self.defines_parts(&[name]),
                    }
                }
                self.defines(index.relation());
                self.push_rest(node, scope, &[index.relation()]);
                "CREATE INDEX".into()
            }
            Node::CreateSeqStmt(create) => {
                self.defines(create.sequence());
                self.push_rest(node, scope, &[create.sequence()]);
                "CREATE SEQUENCE".into()
            }
            Node::AlterSeqStmt(alter) => {
                self.defines(alter.sequence());
                self.push_rest(node, scope, &[alter.sequence()]);
                "ALTER SEQUENCE".into()
            }
            Node::CompositeTypeStmt(create) => {
                self.defines(create.typevar());
                self.push_rest(node, scope, &[create.typevar()]);
                "CREATE TYPE".into()
            }
            Node::ViewStmt(create) => {
                self.defines(create.view());
                self.later(node, scope, &[create.view()]);
                "CREATE VIEW".into()
            }
            Node::RuleStmt(create) => {
                self.defines(create.relation());
                self.later(node, scope, &[create.relation()]);
                "CREATE RULE".into()
            }
            Node::CreateTrigStmt(create) => {
                self.defines(create.relation());
                self.later(node, scope, &[create.relation()]);
                "CREATE TRIGGER".into()
            }
            Node::CreateFunctionStmt(create) => {
                self.defines_parts(&strings(create.funcname()));
                self.later(node, scope, &[]);
                if create.is_procedure { "CREATE PROCEDURE".into() } else { "CREATE FUNCTION".into() }
            }
            Node::AlterFunctionStmt(alter) => {
                self.object_with_args(alter.func());
                format!("ALTER {}", kind(alter.objtype)).into()
            }
            Node::CreateSchemaStmt(create) => {
                // Without a name of its own it has its owner's.
                let owner = create.authrole().and_then(nodes::RoleSpec::rolename);
                self.defines_name(create.schemaname().or(owner));
                self.push_rest(node, scope, &[]);
                "CREATE SCHEMA".into()
            }
            Node::AlterTableStmt(alter) => self.alter_table(alter, scope),
            Node::DropStmt(drop) => self.drop_objects(drop),
            Node::RenameStmt(rename) if !is_administrative(rename.rename_type) => self.renames(rename),
            Node::AlterObjectSchemaStmt(alter) => self.moves(alter),
            Node::AlterObjectDependsStmt(alter) => {
                self.defines(alter.relation());
                format!("ALTER {}", kind(alter.object_type)).into()
            }
            Node::CommentStmt(comment) => {
                self.target_object(comment.objtype, comment.object());
                "COMMENT".into()
            }
            Node::RefreshMatViewStmt(refresh) => {
                self.defines(refresh.relation());
                "REFRESH MATERIALIZED VIEW".into()
            }
            _ => return self.definition_of_type(node, scope),
        };
        Some(verb)
    }

    /// Types, operators, text search and the like.
    fn definition_of_type(&mut self, node: Node<'a>, scope: usize) -> Option<Verb> {
        let (names, verb): (Vec<&str>, Verb) = match node {
            Node::DefineStmt(define) => (
                define.defnames().iter().filter_map(nodes::String::sval).collect(),
                format!("CREATE {}", kind(define.kind)).into(),
            ),
            Node::CreateEnumStmt(create) => (of(create.type_name()), "CREATE TYPE".into()),
            Node::CreateRangeStmt(create) => (of(create.type_name()), "CREATE TYPE".into()),
            Node::AlterEnumStmt(alter) => (of(alter.type_name()), "ALTER TYPE".into()),
            Node::AlterTypeStmt(alter) => (strings(alter.type_name()), "ALTER TYPE".into()),
            Node::CreateDomainStmt(create) => (of(create.domainname()), "CREATE DOMAIN".into()),
            Node::AlterDomainStmt(alter) => (strings(alter.type_name()), "ALTER DOMAIN".into()),
            Node::CreateOpClassStmt(create) => (of(create.opclassname()), "CREATE OPERATOR CLASS".into()),
            Node::CreateOpFamilyStmt(create) => (of(create.opfamilyname()), "CREATE OPERATOR FAMILY".into()),
            Node::AlterOpFamilyStmt(alter) => (of(alter.opfamilyname()), "ALTER OPERATOR FAMILY".into()),
            Node::AlterOperatorStmt(alter) => (
                alter.opername().map_or_else(Vec::new, |name| strings(name.objname())),
                "ALTER OPERATOR".into(),
            ),
            Node::CreateStatsStmt(create) => (of(create.defnames()), "CREATE STATISTICS".into()),
            Node::AlterStatsStmt(alter) => (of(alter.defnames()), "ALTER STATISTICS".into()),
            Node::CreateConversionStmt(create) => {
                (strings(create.conversion_name()), "CREATE CONVERSION".into())
            }
            Node::AlterCollationStmt(alter) => (strings(alter.collname()), "ALTER COLLATION".into()),
            Node::AlterTSDictionaryStmt(alter) => {
                (of(alter.dictname()), "ALTER TEXT SEARCH DICTIONARY".into())
            }
            Node::AlterTSConfigurationStmt(alter) => {
                (of(alter.cfgname()), "ALTER TEXT SEARCH CONFIGURATION".into())
            }
            Node::CreateCastStmt(_) => (Vec::new(), "CREATE CAST".into()),
            Node::CreateTransformStmt(_) => (Vec::new(), "CREATE TRANSFORM".into()),
            _ => return None,
        };
        self.defines_parts(&names);
        self.push_rest(node, scope, &[]);
        Some(verb)
    }

    /// What is only stored now: relations and functions in it are noted, but it does not run.
    fn later(&mut self, node: Node<'a>, scope: usize, except: &[Option<&nodes::RangeVar>]) {
        let _not_run = self.aside(|walk| walk.push_rest(node, scope, except));
    }

    fn alter_table(&mut self, alter: &'a nodes::AlterTableStmt, scope: usize) -> Verb {
        self.defines(alter.relation());
        for command in alter.cmds() {
            let Node::AlterTableCmd(command) = command else { continue };
            // Who owns it and which rows who sees are questions of who may do what.
            if matches!(
                command.subtype,
                AlterTableType::AT_ChangeOwner
                    | AlterTableType::AT_EnableRowSecurity
                    | AlterTableType::AT_DisableRowSecurity
                    | AlterTableType::AT_ForceRowSecurity
                    | AlterTableType::AT_NoForceRowSecurity
            ) {
                self.raise(Class::Administer);
            }
            if command.subtype == AlterTableType::AT_DetachPartition {
                // CONCURRENTLY commits half-way.
                self.found.outlives_rollback = true;
            }
        }
        self.push_rest(Node::AlterTableStmt(alter), scope, &[alter.relation()]);
        format!("ALTER {}", kind(alter.objtype)).into()
    }

    /// The grammar gives a table, or another object, or only the name of what lives in no schema.
    fn renames(&mut self, rename: &'a nodes::RenameStmt) -> Verb {
        match (rename.relation(), rename.object()) {
            (Some(relation), _) => self.defines(Some(relation)),
            (None, Node::None) => self.defines_name(rename.subname()),
            (None, object) => self.target_object(rename.rename_type, object),
        }
        if rename.rename_type == ObjectType::OBJECT_DATABASE {
            // All that it holds is called otherwise from now on.
            self.object(EVERYTHING.to_owned(), Usage::Define);
        }
        format!("ALTER {}", kind(rename.rename_type)).into()
    }

    /// ALTER … SET SCHEMA: what is moved, and what there is then where it comes to lie.
    fn moves(&mut self, alter: &'a nodes::AlterObjectSchemaStmt) -> Verb {
        self.defines(alter.relation());
        if alter.relation().is_none() {
            self.target_object(alter.object_type, alter.object());
        }
        let parts = match alter.object() {
            Node::NodeList(parts) => strings(parts),
            Node::ObjectWithArgs(object) => strings(object.objname()),
            Node::TypeName(name) => of(name.names()),
            _ => Vec::new(),
        };
        let name = alter.relation().and_then(nodes::RangeVar::relname).or(parts.last().copied());
        match (alter.newschema(), name) {
            (Some(schema), Some(name)) => self.defines_parts(&[schema, name]),
            // An extension, with all that it has made.
            (schema, _) => self.uses_schema(schema, Usage::Define),
        }
        format!("ALTER {}", kind(alter.object_type)).into()
    }

    fn drop_objects(&mut self, drop: &'a nodes::DropStmt) -> Verb {
        for object in drop.objects() {
            self.target_object(drop.remove_type, object);
        }
        if is_administrative(drop.remove_type) {
            self.raise(Class::Administer);
        }
        self.found.outlives_rollback |= drop.concurrent;
        format!("DROP {}", kind(drop.remove_type)).into()
    }

    fn object_with_args(&mut self, object: Option<&'a nodes::ObjectWithArgs>) {
        if let Some(object) = object {
            self.defines_parts(&strings(object.objname()));
        }
    }

    /// The object of DROP, COMMENT, ALTER … and their like, in the forms in which the grammar gives one.
    fn target_object(&mut self, kind: u32, object: Node<'a>) {
        match object {
            Node::String(name) => self.defines_name(name.sval()),
            Node::ObjectWithArgs(object) => self.object_with_args(Some(object)),
            Node::TypeName(name) => {
                self.defines_parts(&of(name.names()));
            }
            Node::NodeList(parts) => {
                let parts = strings(parts);
                match kind {
                    // These live in no schema of their own: table first, own name last.
                    ObjectType::OBJECT_TRIGGER
                    | ObjectType::OBJECT_RULE
                    | ObjectType::OBJECT_POLICY
                    | ObjectType::OBJECT_TABCONSTRAINT
                    | ObjectType::OBJECT_COLUMN => {
                        let table = parts.split_last().map_or(&[][..], |(_, table)| table);
                        self.defines_relation(table);
                    }
                    // Access method first.
                    ObjectType::OBJECT_OPCLASS | ObjectType::OBJECT_OPFAMILY => {
                        self.defines_parts(parts.get(1..).unwrap_or_default());
                    }
                    ObjectType::OBJECT_TABLE
                    | ObjectType::OBJECT_VIEW
                    | ObjectType::OBJECT_MATVIEW
                    | ObjectType::OBJECT_INDEX
                    | ObjectType::OBJECT_SEQUENCE
                    | ObjectType::OBJECT_FOREIGN_TABLE => self.defines_relation(&parts),
                    _ => self.defines_parts(&parts),
                }
            }
            // Casts, transforms and large objects have no name.
            _ => {}
        }
    }

    fn defines_relation(&mut self, parts: &[&str]) {
        let (schema, name) = match parts {
            [name] => (None, *name),
            [schema, name] | [_, schema, name] => (Some(*schema), *name),
            _ => return,
        };
        let objects = &mut self.found.objects;
        self.env.path.relations(schema, name, |name| objects.push(ObjectUse { name, usage: Usage::Define }));
    }

    /// What keeps storage and statistics in order.
    fn maintenance(&mut self, node: Node<'a>) -> Option<Verb> {
        let has = |options: &pg_raw_parse::list::CastNodeList<nodes::DefElem>, name: &str| {
            options.iter().any(|option| option.defname() == Some(name))
        };
        let (class, verb) = match node {
            Node::VacuumStmt(vacuum) => {
                for relation in vacuum.rels().iter().filter_map(nodes::VacuumRelation::relation) {
                    self.relation(relation, Usage::Write);
                }
                // VACUUM FULL writes the table anew and locks everybody out.
                let full = vacuum.is_vacuumcmd && has(vacuum.options(), "full");
                let class = if full { Class::Define } else { Class::Write };
                // VACUUM can't run in a transaction, and ANALYZE counts past it.
                (class, if vacuum.is_vacuumcmd { "VACUUM" } else { "ANALYZE" })
            }
            Node::ClusterStmt(cluster) => {
                self.defines(cluster.relation());
                (Class::Define, "CLUSTER")
            }
            Node::ReindexStmt(reindex) => {
                self.defines(reindex.relation());
                let whole = matches!(
                    reindex.kind,
                    ReindexObjectType::REINDEX_OBJECT_SYSTEM | ReindexObjectType::REINDEX_OBJECT_DATABASE
                );
                if reindex.kind == ReindexObjectType::REINDEX_OBJECT_SCHEMA {
                    self.uses_schema(reindex.name(), Usage::Define);
                } else {
                    self.defines_name(reindex.name());
                }
                (if whole { Class::Administer } else { Class::Define }, "REINDEX")
            }
            _ => return None,
        };
        self.raise(class);
        self.found.outlives_rollback = true;
        Some(verb.into())
    }

    /// Who may do what, and how the server works.
    fn administration(&mut self, node: Node<'a>, scope: usize) -> Option<Verb> {
        let verb: Verb = match node {
            Node::GrantStmt(grant) => {
                self.granted(grant);
                if grant.is_grant { "GRANT".into() } else { "REVOKE".into() }
            }
            Node::GrantRoleStmt(grant) => {
                if grant.is_grant {
                    "GRANT ROLE".into()
                } else {
                    "REVOKE ROLE".into()
                }
            }
            Node::AlterDefaultPrivilegesStmt(alter) => {
                self.default_privileges(alter);
                "ALTER DEFAULT PRIVILEGES".into()
            }
            Node::CreateRoleStmt(create) => {
                self.defines_name(create.role());
                match create.stmt_type {
                    RoleStmtType::ROLESTMT_USER => "CREATE USER".into(),
                    RoleStmtType::ROLESTMT_GROUP => "CREATE GROUP".into(),
                    _ => "CREATE ROLE".into(),
                }
            }
            Node::AlterRoleStmt(alter) => {
                self.defines_name(alter.role().and_then(nodes::RoleSpec::rolename));
                "ALTER ROLE".into()
            }
            Node::AlterRoleSetStmt(alter) => {
                self.defines_name(alter.role().and_then(nodes::RoleSpec::rolename));
                "ALTER ROLE".into()
            }
            Node::DropRoleStmt(drop) => {
                for role in drop.roles() {
                    if let Node::RoleSpec(role) = role {
                        self.defines_name(role.rolename());
                    }
                }
                "DROP ROLE".into()
            }
            Node::CreatePolicyStmt(create) => {
                self.defines(create.table());
                self.later(node, scope, &[create.table()]);
                "CREATE POLICY".into()
            }
            Node::AlterPolicyStmt(alter) => {
                self.defines(alter.table());
                self.later(node, scope, &[alter.table()]);
                "ALTER POLICY".into()
            }
            Node::AlterOwnerStmt(alter) => {
                self.defines(alter.relation());
                if alter.relation().is_none() {
                    self.target_object(alter.object_type, alter.object());
                }
                format!("ALTER {}", kind(alter.object_type)).into()
            }
            Node::RenameStmt(rename) => self.renames(rename),
            Node::SecLabelStmt(label) => {
                self.target_object(label.objtype, label.object());
                "SECURITY LABEL".into()
            }
            // What somebody owns, only the server knows.
            Node::ReassignOwnedStmt(_) => {
                self.object(EVERYTHING.to_owned(), Usage::Define);
                "REASSIGN OWNED".into()
            }
            Node::DropOwnedStmt(_) => {
                self.object(EVERYTHING.to_owned(), Usage::Define);
                "DROP OWNED".into()
            }
            Node::CreatePublicationStmt(create) => {
                self.defines_name(create.pubname());
                self.publishes(create.pubobjects(), create.for_all_tables);
                self.later(node, scope, &[]);
                "CREATE PUBLICATION".into()
            }
            Node::AlterPublicationStmt(alter) => {
                self.defines_name(alter.pubname());
                self.publishes(alter.pubobjects(), alter.for_all_tables);
                self.later(node, scope, &[]);
                "ALTER PUBLICATION".into()
            }
            _ => return self.of_server(node),
        };
        Some(verb)
    }

    /// Databases, extensions, foreign servers and the server itself.
    fn of_server(&mut self, node: Node<'a>) -> Option<Verb> {
        if matches!(node, Node::CreatedbStmt(_) | Node::DropdbStmt(_)) {
            // All that a database holds is copied, or gone.
            self.object(EVERYTHING.to_owned(), Usage::Define);
        }
        // The third says whether it stands after a rollback: it can't run in a transaction, or has done more.
        let (name, verb, lasting) = match node {
            Node::AlterSystemStmt(_) => (None, "ALTER SYSTEM", true),
            Node::CheckPointStmt(_) => (None, "CHECKPOINT", true),
            Node::LoadStmt(_) => {
                // A library runs when it is loaded.
                self.raise(Class::Execute);
                (None, "LOAD", true)
            }
            Node::CreatedbStmt(create) => (create.dbname(), "CREATE DATABASE", true),
            Node::DropdbStmt(drop) => (drop.dbname(), "DROP DATABASE", true),
            Node::AlterDatabaseStmt(alter) => (alter.dbname(), "ALTER DATABASE", true),
            Node::AlterDatabaseSetStmt(alter) => (alter.dbname(), "ALTER DATABASE", false),
            Node::AlterDatabaseRefreshCollStmt(alter) => (alter.dbname(), "ALTER DATABASE", false),
            Node::CreateTableSpaceStmt(create) => (create.tablespacename(), "CREATE TABLESPACE", true),
            Node::DropTableSpaceStmt(drop) => (drop.tablespacename(), "DROP TABLESPACE", true),
            Node::AlterTableSpaceOptionsStmt(alter) => (alter.tablespacename(), "ALTER TABLESPACE", false),
            Node::AlterTableMoveAllStmt(alter) => (alter.orig_tablespacename(), "ALTER TABLESPACE", false),
            // The script of an extension may do anything.
            Node::CreateExtensionStmt(create) => (create.extname(), "CREATE EXTENSION", true),
            Node::AlterExtensionStmt(alter) => (alter.extname(), "ALTER EXTENSION", true),
            Node::AlterExtensionContentsStmt(alter) => (alter.extname(), "ALTER EXTENSION", false),
            Node::CreateFdwStmt(create) => (create.fdwname(), "CREATE FOREIGN DATA WRAPPER", false),
            Node::AlterFdwStmt(alter) => (alter.fdwname(), "ALTER FOREIGN DATA WRAPPER", false),
            Node::CreateForeignServerStmt(create) => (create.servername(), "CREATE SERVER", false),
            Node::AlterForeignServerStmt(alter) => (alter.servername(), "ALTER SERVER", false),
            Node::CreateUserMappingStmt(create) => (create.servername(), "CREATE USER MAPPING", false),
            Node::AlterUserMappingStmt(alter) => (alter.servername(), "ALTER USER MAPPING", false),
            Node::DropUserMappingStmt(drop) => (drop.servername(), "DROP USER MAPPING", false),
            // Asks another server.
            Node::ImportForeignSchemaStmt(import) => (import.local_schema(), "IMPORT FOREIGN SCHEMA", true),
            Node::CreateAmStmt(create) => (create.amname(), "CREATE ACCESS METHOD", false),
            Node::CreateEventTrigStmt(create) => (create.trigname(), "CREATE EVENT TRIGGER", false),
            Node::AlterEventTrigStmt(alter) => (alter.trigname(), "ALTER EVENT TRIGGER", false),
            Node::CreatePLangStmt(create) => (create.plname(), "CREATE LANGUAGE", false),
            Node::CreateSubscriptionStmt(create) => (create.subname(), "CREATE SUBSCRIPTION", true),
            Node::AlterSubscriptionStmt(alter) => (alter.subname(), "ALTER SUBSCRIPTION", true),
            Node::DropSubscriptionStmt(drop) => (drop.subname(), "DROP SUBSCRIPTION", true),
            _ => return None,
        };
        self.defines_name(name);
        self.found.outlives_rollback |= lasting;
        Some(verb.into())
    }

    fn granted(&mut self, grant: &'a nodes::GrantStmt) {
        let named = grant.targtype == GrantTargetType::ACL_TARGET_OBJECT;
        let all_of_schemas = grant.targtype == GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA;
        if named && matches!(grant.objtype, ObjectType::OBJECT_TABLE | ObjectType::OBJECT_SEQUENCE) {
            for relation in grant.objects() {
                self.relation(relation, Usage::Define);
            }
        } else if all_of_schemas || (named && grant.objtype == ObjectType::OBJECT_SCHEMA) {
            // Who may enter a schema is a question of all that it holds, too.
            for schema in plain_names(grant) {
                self.uses_schema(Some(&schema), Usage::Define);
            }
        }
    }

    /// What somebody will get of every object that is yet to come: in these schemas, or in any.
    fn default_privileges(&mut self, alter: &'a nodes::AlterDefaultPrivilegesStmt) {
        let mut everywhere = true;
        for option in alter.options() {
            if let (Some("schemas"), Node::NodeList(schemas)) = (option.defname(), option.arg()) {
                everywhere = false;
                for schema in strings(schemas) {
                    self.uses_schema(Some(schema), Usage::Define);
                }
            }
        }
        if everywhere {
            self.object(EVERYTHING.to_owned(), Usage::Define);
        }
    }

    /// What a publication hands out of whole schemas, or of all of them. Single tables the walk finds.
    fn publishes(&mut self, objects: &'a pg_raw_parse::list::NodeList, all: bool) {
        if all {
            self.object(EVERYTHING.to_owned(), Usage::Read);
        }
        for object in objects {
            let Node::PublicationObjSpec(object) = object else { continue };
            match object.pubobjtype {
                PublicationObjSpecType::PUBLICATIONOBJ_TABLES_IN_SCHEMA => {
                    self.uses_schema(object.name(), Usage::Read);
                }
                PublicationObjSpecType::PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA => {
                    let found = &mut self.found.objects;
                    self.env.path.current(|name| found.push(ObjectUse { name, usage: Usage::Read }));
                }
                _ => {}
            }
        }
    }
}

/// The objects of a GRANT that has plain names. The list is typed as one of tables, so that it has to be copied to be looked
/// at as what it is.
fn plain_names(grant: &nodes::GrantStmt) -> Vec<String> {
    let mut names = Vec::new();
    drop(pg_raw_parse::make::owned(|memory| {
        let copied = memory.make_unique(grant.objects()).uncast();
        if let Node::NodeList(list) = copied.as_ref() {
            names.extend(strings(list).into_iter().map(str::to_owned));
        }
        memory.empty()
    }));
    names
}

fn of(names: &pg_raw_parse::list::CastNodeList<nodes::String>) -> Vec<&str> {
    names.iter().filter_map(nodes::String::sval).collect()
}

/// Whether changing an object of this kind is administering.
const fn is_administrative(kind: u32) -> bool {
    matches!(
        kind,
        ObjectType::OBJECT_ACCESS_METHOD
            | ObjectType::OBJECT_DATABASE
            | ObjectType::OBJECT_EVENT_TRIGGER
            | ObjectType::OBJECT_EXTENSION
            | ObjectType::OBJECT_FDW
            | ObjectType::OBJECT_FOREIGN_SERVER
            | ObjectType::OBJECT_LANGUAGE
            | ObjectType::OBJECT_POLICY
            | ObjectType::OBJECT_PUBLICATION
            | ObjectType::OBJECT_ROLE
            | ObjectType::OBJECT_SUBSCRIPTION
            | ObjectType::OBJECT_TABLESPACE
            | ObjectType::OBJECT_USER_MAPPING
    )
}

/// The words for a kind of object in the server's command tags.
const fn kind(kind: u32) -> &'static str {
    match kind {
        ObjectType::OBJECT_ACCESS_METHOD => "ACCESS METHOD",
        ObjectType::OBJECT_AGGREGATE => "AGGREGATE",
        ObjectType::OBJECT_ATTRIBUTE | ObjectType::OBJECT_TYPE => "TYPE",
        ObjectType::OBJECT_CAST => "CAST",
        ObjectType::OBJECT_COLLATION => "COLLATION",
        ObjectType::OBJECT_CONVERSION => "CONVERSION",
        ObjectType::OBJECT_DATABASE => "DATABASE",
        ObjectType::OBJECT_DOMAIN | ObjectType::OBJECT_DOMCONSTRAINT => "DOMAIN",
        ObjectType::OBJECT_EVENT_TRIGGER => "EVENT TRIGGER",
        ObjectType::OBJECT_EXTENSION => "EXTENSION",
        ObjectType::OBJECT_FDW => "FOREIGN DATA WRAPPER",
        ObjectType::OBJECT_FOREIGN_SERVER => "SERVER",
        ObjectType::OBJECT_FOREIGN_TABLE => "FOREIGN TABLE",
        ObjectType::OBJECT_FUNCTION => "FUNCTION",
        ObjectType::OBJECT_INDEX => "INDEX",
        ObjectType::OBJECT_LANGUAGE => "LANGUAGE",
        ObjectType::OBJECT_LARGEOBJECT => "LARGE OBJECT",
        ObjectType::OBJECT_MATVIEW => "MATERIALIZED VIEW",
        ObjectType::OBJECT_OPCLASS => "OPERATOR CLASS",
        ObjectType::OBJECT_OPERATOR => "OPERATOR",
        ObjectType::OBJECT_OPFAMILY => "OPERATOR FAMILY",
        ObjectType::OBJECT_POLICY => "POLICY",
        ObjectType::OBJECT_PROCEDURE => "PROCEDURE",
        ObjectType::OBJECT_PUBLICATION => "PUBLICATION",
        ObjectType::OBJECT_ROLE => "ROLE",
        ObjectType::OBJECT_ROUTINE => "ROUTINE",
        ObjectType::OBJECT_RULE => "RULE",
        ObjectType::OBJECT_SCHEMA => "SCHEMA",
        ObjectType::OBJECT_SEQUENCE => "SEQUENCE",
        ObjectType::OBJECT_STATISTIC_EXT => "STATISTICS",
        ObjectType::OBJECT_SUBSCRIPTION => "SUBSCRIPTION",
        ObjectType::OBJECT_TABLESPACE => "TABLESPACE",
        ObjectType::OBJECT_TRANSFORM => "TRANSFORM",
        ObjectType::OBJECT_TRIGGER => "TRIGGER",
        ObjectType::OBJECT_TSCONFIGURATION => "TEXT SEARCH CONFIGURATION",
        ObjectType::OBJECT_TSDICTIONARY => "TEXT SEARCH DICTIONARY",
        ObjectType::OBJECT_TSPARSER => "TEXT SEARCH PARSER",
        ObjectType::OBJECT_TSTEMPLATE => "TEXT SEARCH TEMPLATE",
        ObjectType::OBJECT_VIEW => "VIEW",
        // Constraints, columns and defaults are altered with their table.
        _ => "TABLE",
    }
}
