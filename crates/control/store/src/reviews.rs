//! Reviews and the messages about them, across restarts.

use review::Review;
use vocabulary::{ReviewId, Timestamp};

use crate::error::StoreError;

/// A review as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredReview {
    /// The review.
    pub review: Review,
    /// Whether a client waits for it on the wire.
    pub held: bool,
}

/// A message about a review, for one webhook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// The review.
    pub review: ReviewId,
    /// The webhook, by its name in the settings.
    pub webhook: String,
    /// What happened: `review.requested`, `review.decided`.
    pub event: String,
    /// When it was to be told first.
    pub created_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed last.
    pub problem: Option<String>,
}

/// A message to be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewDelivery {
    /// The review.
    pub review: ReviewId,
    /// The webhook.
    pub webhook: String,
    /// What happened.
    pub event: &'static str,
}

/// What came of trying to deliver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// The other side has it.
    Yes,
    /// It is to be tried again.
    Later {
        /// When.
        at: Timestamp,
        /// Why it failed.
        problem: String,
    },
    /// It is not tried any more.
    Never {
        /// Why it failed.
        problem: String,
    },
}

/// Where reviews live.
pub trait ReviewStore {
    /// Stores reviews, and the messages about them, in one transaction.
    ///
    /// # Errors
    /// The database's own; nothing is stored then.
    fn save_reviews(
        &mut self,
        now: Timestamp,
        reviews: &[StoredReview],
        deliveries: &[NewDelivery],
    ) -> Result<(), StoreError>;

    /// Every stored review.
    ///
    /// # Errors
    /// If the database can't be read or a sealed value can't be opened.
    fn reviews(&self) -> Result<Vec<StoredReview>, StoreError>;

    /// Forgets reviews and the messages about them.
    ///
    /// # Errors
    /// The database's own.
    fn forget_reviews(&mut self, reviews: &[ReviewId]) -> Result<(), StoreError>;

    /// Messages that are due at `now`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// If the database can't be read.
    fn due_deliveries(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError>;

    /// Messages that are late or were given up.
    ///
    /// # Errors
    /// If the database can't be read.
    fn undelivered(&self) -> Result<Vec<Delivery>, StoreError>;

    /// Notes what came of a delivery.
    ///
    /// # Errors
    /// The database's own.
    fn delivered(&mut self, id: i64, outcome: &Delivered) -> Result<(), StoreError>;
}
