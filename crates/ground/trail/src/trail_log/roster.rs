//! Who takes part in a trail log, and what may follow what.

use std::{collections::BTreeMap, fmt};

use ledger::{Hash, VerifierKey};

use super::{Head, TrailLeaf, TrailLogError, decimal};

/// Nodes that a trail log takes at most, those that have left included: a heartbeat names them all in one entry.
pub const MAX_NODES: usize = 256;

/// A node as a heartbeat names it: `here` or `left`, size, root and vkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStanding {
    /// Its log's key.
    pub key: VerifierKey,
    /// Whether it has joined and not left.
    pub here: bool,
    /// The latest that is known of its log.
    pub head: Head,
}

impl NodeStanding {
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let here = match words.next()? {
            "here" => true,
            "left" => false,
            _ => return None,
        };
        let size = decimal(words.next())?;
        let root = Hash::from_base64(words.next()?)?;
        let key = VerifierKey::parse(words.next()?).ok()?;
        Some(Self { key, here, head: Head { size, root } })
    }
}

impl fmt::Display for NodeStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, here, head } = self;
        write!(f, "{} {} {} {key}", if *here { "here" } else { "left" }, head.size, head.root)
    }
}

/// All nodes, as of the leaves so far.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    nodes: BTreeMap<String, NodeStanding>,
    /// The latest time that the trail log itself has stated, in seconds since 1970.
    time_s: u64,
}

impl Roster {
    /// The roster that a heartbeat gives.
    pub(super) fn of(nodes: Vec<NodeStanding>, time_s: u64) -> Self {
        let nodes = nodes.into_iter().map(|node| (node.key.name().to_owned(), node)).collect();
        Self { nodes, time_s }
    }

    /// The latest time that a heartbeat gave, in seconds since 1970; 0 if there was none.
    #[must_use]
    pub const fn time_s(&self) -> u64 {
        self.time_s
    }

    /// All nodes, by origin.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeStanding> {
        self.nodes.values()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, origin: &str) -> Option<&NodeStanding> {
        self.nodes.get(origin)
    }

    /// Takes the next leaf: its signature must be that of whoever may say so, and it must follow from those before.
    ///
    /// # Errors
    /// [`TrailLogError`]; the roster is then as it was.
    pub fn apply(&mut self, leaf: &TrailLeaf, trail_log: &VerifierKey) -> Result<(), TrailLogError> {
        let out = |what: String| Err(TrailLogError::OutOfPlace(what));
        match leaf {
            TrailLeaf::Join { key, note, .. } => {
                note.verify(key)?;
                let is_full = self.nodes.len() >= MAX_NODES;
                match self.nodes.get_mut(key.name()) {
                    // A gateway that crashed joins without having left.
                    Some(node) if node.key == *key => node.here = true,
                    Some(_) => return out(format!("{} has joined with another key", key.name())),
                    None if is_full => {
                        return out(format!("there are {MAX_NODES} nodes already"));
                    }
                    None => {
                        let head = Head { size: 0, root: Hash::empty() };
                        let node = NodeStanding { key: key.clone(), here: true, head };
                        self.nodes.insert(key.name().to_owned(), node);
                    }
                }
            }
            TrailLeaf::Checkpoint(checkpoint) => {
                let node = self.here(checkpoint.origin())?;
                checkpoint.note().verify(&node.key)?;
                let (size, known) = (checkpoint.size(), node.head.size);
                if size < known {
                    return out(format!(
                        "a checkpoint of {size} entries comes after one of {known}: the log was set back"
                    ));
                }
                if size == known && *checkpoint.root() != node.head.root {
                    return out(format!(
                        "there is another checkpoint of {size} entries: the log was forked or replaced"
                    ));
                }
                if size == known {
                    return Err(TrailLogError::Known(size));
                }
                node.head = Head { size: checkpoint.size(), root: *checkpoint.root() };
            }
            TrailLeaf::Leave { head, note, .. } => {
                let node = self.here(&head.origin)?;
                note.verify(&node.key)?;
                if head.size < node.head.size || (head.size == node.head.size && head.root != node.head.root)
                {
                    return out(format!(
                        "{} leaves with {} entries, and had {}",
                        head.origin, head.size, node.head.size
                    ));
                }
                node.head = Head { size: head.size, root: head.root };
                node.here = false;
            }
            TrailLeaf::Heartbeat { time_s, nodes, note } => {
                note.verify(trail_log)?;
                if !nodes.iter().eq(self.nodes.values()) {
                    return out("the roster of a heartbeat is not that of the leaves before it".to_owned());
                }
                self.time_s = self.time_s.max(*time_s);
            }
        }
        Ok(())
    }

    fn here(&mut self, origin: &str) -> Result<&mut NodeStanding, TrailLogError> {
        match self.nodes.get_mut(origin) {
            Some(node) if node.here => Ok(node),
            Some(_) => Err(TrailLogError::OutOfPlace(format!("{origin} has left"))),
            None => Err(TrailLogError::OutOfPlace(format!("{origin} has not joined"))),
        }
    }
}
