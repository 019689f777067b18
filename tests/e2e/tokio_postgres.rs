//! tokio-postgres through the gateway. `test_tokio_postgres.py` runs it, with a gateway's address in `E2E_URL`, and then
//! looks into the trail.

use futures_util::{SinkExt, TryStreamExt, future, pin_mut};
use tokio_postgres::{Client, NoTls};

/// A client whose connection runs beside it.
async fn client() -> Client {
    let url = std::env::var("E2E_URL").expect("E2E_URL is the address of a target behind the gateway");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the gateway lets it in");
    tokio::spawn(connection);
    client
}

#[tokio::test]
#[ignore = "needs a gateway: test_tokio_postgres.py starts one"]
async fn pipelined_queries_come_back_in_order() {
    let client = client().await;
    let statement = client.prepare("SELECT $1::int4 * 2").await.unwrap();
    // Polled together, all are sent before the first answer is read.
    let numbers: Vec<i32> = (0..200).collect();
    let queries = numbers.iter().map(|number| {
        let (client, statement) = (&client, &statement);
        async move { client.query_one(statement, &[number]).await.map(|row| row.get::<_, i32>(0)) }
    });
    let doubled = future::try_join_all(queries).await.unwrap();
    assert_eq!(doubled, numbers.iter().map(|number| number * 2).collect::<Vec<_>>());
}

#[tokio::test]
#[ignore = "needs a gateway: test_tokio_postgres.py starts one"]
async fn an_error_in_a_pipeline_is_that_commands_alone() {
    let client = client().await;
    let (before, error, after) = future::join3(
        client.query_one("SELECT 'before'", &[]),
        client.query_one("SELECT 1 / $1::int4", &[&0i32]),
        client.query_one("SELECT 'after'", &[]),
    )
    .await;
    assert_eq!(before.unwrap().get::<_, &str>(0), "before");
    assert_eq!(error.unwrap_err().code().unwrap().code(), "22012");
    assert_eq!(after.unwrap().get::<_, &str>(0), "after");
}

#[tokio::test]
#[ignore = "needs a gateway: test_tokio_postgres.py starts one"]
async fn transactions_portals_and_copy() {
    let mut client = client().await;
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("CREATE TEMP TABLE numbers (n int4)").await.unwrap();
    let sink = transaction.copy_in("COPY numbers FROM STDIN").await.unwrap();
    pin_mut!(sink);
    sink.send(b"1\n2\n3\n".as_slice()).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 3);
    let portal = transaction.bind("SELECT n FROM numbers ORDER BY n", &[]).await.unwrap();
    let first = transaction.query_portal(&portal, 2).await.unwrap();
    let rest = transaction.query_portal(&portal, 2).await.unwrap();
    assert_eq!((first.len(), rest.len()), (2, 1));
    let out = transaction.copy_out("COPY numbers TO STDOUT").await.unwrap();
    let parts: Vec<_> = out.try_collect().await.unwrap();
    assert_eq!(parts.concat(), b"1\n2\n3\n");
    transaction.commit().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a gateway: test_tokio_postgres.py starts one"]
async fn a_query_is_cancelled() {
    let client = client().await;
    let token = client.cancel_token();
    let cancel = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        token.cancel_query(NoTls).await
    };
    let (slept, cancelled) = future::join(client.batch_execute("SELECT pg_sleep(20)"), cancel).await;
    cancelled.unwrap();
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
}
