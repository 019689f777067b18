//! Reviews and deliveries in SQLite.

use rusqlite::{Row, TransactionBehavior, params};
use vocabulary::{ReviewId, Timestamp};

use super::SqliteStore;
use super::read::{micros, timestamp};
use crate::error::StoreError;
use crate::reviews::{Delivered, Delivery, NewDelivery, ReviewStore, StoredReview};
use crate::seal;

const COLUMNS: &str = "id, review, webhook, event, created_at, attempts, problem";

fn place(id: &ReviewId) -> seal::Place<'_> {
    seal::Place { table: "reviews", row: id.as_bytes(), field: "review" }
}

impl ReviewStore for SqliteStore {
    fn save_reviews(
        &mut self,
        now: Timestamp,
        reviews: &[StoredReview],
        deliveries: &[NewDelivery],
    ) -> Result<(), StoreError> {
        let at = &self.place;
        let transaction = at.of(self.connection.transaction_with_behavior(TransactionBehavior::Immediate))?;
        for StoredReview { review, held } in reviews {
            let text = serde_json::to_vec(review).map_err(|error| at.corrupt(error.to_string()))?;
            let sealed =
                self.key.seal(&place(&review.id), &text).map_err(|source| seal_error(&review.id, source))?;
            at.of(transaction.execute(
                "INSERT INTO reviews (id, session, state, held, sealed) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET state = ?3, held = ?4, sealed = ?5",
                params![
                    review.id.as_bytes(),
                    review.asked.session.as_bytes(),
                    review.state.as_str(),
                    held,
                    sealed
                ],
            ))?;
        }
        for NewDelivery { review, webhook, event } in deliveries {
            at.of(transaction.execute(
                "INSERT INTO deliveries (review, webhook, event, created_at, attempts, next_at) VALUES (?1, ?2, ?3, ?4, 0, ?4)",
                params![review.as_bytes(), webhook, event, micros(now)],
            ))?;
        }
        at.of(transaction.commit())
    }

    fn reviews(&self) -> Result<Vec<StoredReview>, StoreError> {
        let at = &self.place;
        let mut statement = at.of(self.connection.prepare_cached("SELECT id, held, sealed FROM reviews"))?;
        let rows = at.of(statement.query_map([], |row| {
            Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, bool>(1)?, row.get::<_, Vec<u8>>(2)?))
        }))?;
        let mut reviews = Vec::new();
        for row in rows {
            let (id, held, sealed) = at.of(row)?;
            let id = ReviewId::from_bytes(id);
            let text = self.key.open(&place(&id), &sealed).map_err(|source| seal_error(&id, source))?;
            let review = serde_json::from_slice(&text)
                .map_err(|error| at.corrupt(format!("review {id} can't be read: {error}")))?;
            reviews.push(StoredReview { review, held });
        }
        Ok(reviews)
    }

    fn forget_reviews(&mut self, reviews: &[ReviewId]) -> Result<(), StoreError> {
        let at = &self.place;
        let transaction = at.of(self.connection.transaction_with_behavior(TransactionBehavior::Immediate))?;
        for id in reviews {
            at.of(transaction.execute("DELETE FROM reviews WHERE id = ?1", params![id.as_bytes()]))?;
        }
        at.of(transaction.commit())
    }

    fn due_deliveries(&self, now: Timestamp, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM (
                SELECT *, row_number() OVER (PARTITION BY webhook ORDER BY id) AS place FROM deliveries WHERE next_at <= ?1
            ) WHERE place <= ?2 ORDER BY id"
        );
        let mut statement = self.place.of(self.connection.prepare_cached(&sql))?;
        self.place.of(statement.query_map(params![micros(now), limit], delivery).and_then(Iterator::collect))
    }

    fn undelivered(&self) -> Result<Vec<Delivery>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM deliveries WHERE attempts > 0 ORDER BY id LIMIT 1000");
        let mut statement = self.place.of(self.connection.prepare_cached(&sql))?;
        self.place.of(statement.query_map([], delivery).and_then(Iterator::collect))
    }

    fn delivered(&mut self, id: i64, outcome: &Delivered) -> Result<(), StoreError> {
        let (next, problem) = match outcome {
            Delivered::Yes => {
                let deleted = self.connection.execute("DELETE FROM deliveries WHERE id = ?1", params![id]);
                return self.place.of(deleted).map(drop);
            }
            Delivered::Later { at, problem } => (Some(micros(*at)), problem),
            Delivered::Never { problem } => (None, problem),
        };
        let updated = self.connection.execute(
            "UPDATE deliveries SET attempts = attempts + 1, next_at = ?2, problem = ?3 WHERE id = ?1",
            params![id, next, problem],
        );
        self.place.of(updated).map(drop)
    }
}

fn seal_error(id: &ReviewId, source: seal::SealError) -> StoreError {
    StoreError::Seal { place: format!("review {id}"), source }
}

fn delivery(row: &Row<'_>) -> Result<Delivery, rusqlite::Error> {
    Ok(Delivery {
        id: row.get(0)?,
        review: ReviewId::from_bytes(row.get(1)?),
        webhook: row.get(2)?,
        event: row.get(3)?,
        created_at: timestamp(row.get(4)?),
        attempts: row.get(5)?,
        problem: row.get(6)?,
    })
}
