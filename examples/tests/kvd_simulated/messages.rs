//! Messages: when they are delivered.

use std::time::Duration;

use asynchat::Result;
use asynchat::sim::Conditions;

use crate::allocator::allocated;
use crate::clients::PANICS;
use crate::scene::{Scene, options, received};
use crate::server::Options;
use crate::server::config::Config;
use crate::server::shared::lock;

/// With this `client-output-buffer-limit`.
fn scene_with_limit(limit: &str) -> Result<Scene> {
    let mut config = Config::default();
    config.set("client-output-buffer-limit", limit)?;
    Scene::with(Options {
        config,
        ..options()
    })
}

#[test]
fn a_message_to_oneself_follows_the_reply_of_a_transaction() -> Result {
    let scene = Scene::new()?;
    let client = scene.client()?;
    let script = "MULTI\nSUBSCRIBE c\nPUBLISH c hi\nPING\nEXEC\n";
    assert_eq!(
        scene.ask(&client, script)?,
        "+OK +QUEUED +QUEUED +QUEUED *3 *3 $9 subscribe $1 c :1 :1 *2 $4 pong $0  *3 $7 message $1 c $2 hi "
    );
    Ok(())
}

/// EXEC makes no difference: what waits has the limit of subscribers, one message alone has none, and no more messages are
/// made than that.
#[test]
fn messages_to_oneself_have_the_limit_of_subscribers_in_a_transaction() -> Result {
    let content = "x".repeat(50_000);
    let patterns: String = (0..1_000).map(|it| format!(" [{it}c]*")).collect();
    for limit in ["0", "100kb", "1mb"] {
        let mut outcomes = Vec::new();
        for in_transaction in [false, true] {
            let scene = scene_with_limit(&format!("pubsub {limit} 0 0"))?;
            let (client, other) = (scene.client()?, scene.client()?);
            scene.ask(&client, &format!("HELLO 3\nPSUBSCRIBE{patterns}\n"))?;
            client.stop_reading();
            let publish = format!("PUBLISH ch {content}\nSET after 1\n");
            let script = if in_transaction {
                format!("MULTI\n{publish}EXEC\n")
            } else {
                publish
            };
            let before = allocated();
            client.send(script.replace('\n', "\r\n"));
            scene.network.settle(&scene.event_loop)?;
            let added = allocated() - before;
            // A transaction is executed as a whole.
            let is_executed = scene.ask(&other, "EXISTS after\n")? == ":1 ";
            assert_eq!(is_executed, in_transaction || limit == "0", "{limit}");
            if limit != "0" {
                assert!(added < 8 << 20, "{limit}: {added} bytes");
            }
            client.start_reading(usize::MAX);
            scene.network.settle(&scene.event_loop)?;
            let messages = received(&client).matches("pmessage ").count();
            outcomes.push((client.has_ended(), messages));
        }
        let wanted = match limit {
            "0" => (false, 1_000),
            _ => (true, 0),
        };
        assert_eq!(outcomes, [wanted, wanted], "{limit}");
    }
    Ok(())
}

/// They do not wait for the limit to be exceeded by one message: many messages count together.
#[test]
fn the_messages_of_one_transaction_count_together() -> Result {
    let scene = scene_with_limit("pubsub 100kb 0 0")?;
    for (number, is_ended) in [(2, false), (9, true)] {
        let client = scene.client()?;
        scene.ask(&client, "HELLO 3\nSUBSCRIBE c\n")?;
        let publish = format!("PUBLISH c {}\n", "x".repeat(20_000)).repeat(number);
        let reply = scene.ask(&client, &format!("MULTI\n{publish}EXEC\n"))?;
        assert_eq!(client.has_ended(), is_ended, "{number} messages");
        let received = reply.matches(">3 $7 message ").count();
        assert_eq!(received, if is_ended { 0 } else { number });
    }
    Ok(())
}

/// Each request is short, but what it publishes to many takes long, and follows the last request.
#[test]
fn a_client_that_publishes_to_many_gives_others_their_turn() -> Result {
    let scene = Scene::new()?;
    let (publisher, other) = (scene.client()?, scene.client()?);
    let mut subscribers = Vec::new();
    for _ in 0..250 {
        let subscriber = scene.client()?;
        subscriber.send("SUBSCRIBE c\r\nPSUBSCRIBE c* ?* [c]*\r\n");
        subscribers.push(subscriber);
    }
    scene.network.settle(&scene.event_loop)?;
    for subscriber in &subscribers {
        subscriber.take_received();
    }
    publisher.send("PUBLISH c hi\r\n".repeat(15));
    other.send("PUBLISH c no\r\n");
    scene.network.settle(&scene.event_loop)?;
    assert_eq!(received(&publisher), ":1000 ".repeat(15));
    let four_times = |content: &str| format!("{content} ").repeat(4);
    let wanted = four_times("hi").repeat(11) + &four_times("no") + &four_times("hi").repeat(4);
    for subscriber in &subscribers {
        let messages = received(subscriber);
        let words = messages.split(' ');
        let contents: String = words
            .filter(|word| ["hi", "no"].contains(word))
            .map(|word| format!("{word} "))
            .collect();
        assert_eq!(contents, wanted);
    }
    Ok(())
}

/// The time is looked at after each request that compares a channel with many patterns.
#[test]
fn a_turn_ends_behind_a_message_that_is_compared_with_many_patterns() -> Result {
    let scene = Scene::new()?;
    let (publisher, subscriber) = (scene.client()?, scene.client()?);
    let patterns = (0..50_000).map(|it| format!("*a*{it}*b"));
    let patterns: String = patterns
        .map(|it| format!("${}\r\n{it}\r\n", it.len()))
        .collect();
    subscriber.start_reading(usize::MAX);
    subscriber.send(format!("*50001\r\n$10\r\nPSUBSCRIBE\r\n{patterns}"));
    scene.network.settle(&scene.event_loop)?;
    publisher.send("PUBLISH aaaaaaaaaaaaaaaaaaaaaaaa x\r\n".repeat(10));
    let mut replies = 0;
    while replies == 0 {
        scene.event_loop.run_once(Duration::ZERO)?;
        replies = received(&publisher).matches(":0 ").count();
    }
    assert!(replies < 10, "all messages were published in one turn");
    scene.network.settle(&scene.event_loop)?;
    replies += received(&publisher).matches(":0 ").count();
    assert_eq!(replies, 10);
    Ok(())
}

#[test]
fn messages_are_delivered_at_once_when_they_use_much_memory() -> Result {
    let scene = scene_with_limit("pubsub 100kb 0 0")?;
    let (publisher, first, second) = (scene.client()?, scene.client()?, scene.client()?);
    scene.ask(&first, "SUBSCRIBE a\n")?;
    scene.ask(&second, "SUBSCRIBE b\n")?;
    let content = "x".repeat(60_000);
    let publish = format!("PUBLISH a {content}\nPUBLISH b {content}\n");
    let script = format!("MULTI\n{publish}CLIENT LIST\nEXEC\n");
    let replies = scene.ask(&publisher, &script)?;
    // The output of the two subscribers.
    assert_eq!(replies.matches(" omem=600").count(), 2, "{replies}");
    for subscriber in [&first, &second] {
        assert!(received(subscriber).contains(&content));
    }
    Ok(())
}

#[test]
fn what_was_published_before_a_panic_is_delivered() -> Result {
    let scene = Scene::new()?;
    let (publisher, subscriber) = (scene.client()?, scene.client()?);
    scene.ask(&subscriber, "SUBSCRIBE c\n")?;
    scene.ask(&publisher, "MULTI\nPUBLISH c hi\nPING\n")?;
    {
        let data = scene.shared.lock();
        let client = data.clients.values().next().ok_or("there is no client")?;
        let mut transaction = lock(&client.transaction);
        let transaction = transaction.as_mut().ok_or("it has not begun")?;
        transaction.queued[1].0 = &PANICS;
    }
    scene.ask(&publisher, "EXEC\n")?;
    assert!(publisher.has_ended());
    assert_eq!(received(&subscriber), "*3 $7 message $1 c $2 hi ");
    Ok(())
}

/// As in Redis: it applies from the next part of the reply of EXEC on, and neither to messages nor to confirmations.
#[test]
fn client_reply_applies_to_the_parts_of_a_transaction_and_not_to_messages() -> Result {
    let message = ">3 $7 message $1 c $1 x ";
    for (script, wanted) in [
        (
            "MULTI\nSET a 1\nCLIENT REPLY OFF\nGET a\nCLIENT REPLY ON\nGET a\nEXEC\n",
            "+OK +QUEUED +QUEUED +QUEUED +QUEUED +QUEUED *5 +OK +OK $1 1 ",
        ),
        (
            "CLIENT REPLY OFF\nMULTI\nSET a 1\nCLIENT REPLY ON\nGET a\nEXEC\n",
            "+OK $1 1 ",
        ),
        (
            "MULTI\nSET a 1\nCLIENT REPLY SKIP\nGET a\nEXEC\nECHO 1\n",
            "+OK +QUEUED +QUEUED +QUEUED *3 +OK $1 1 ",
        ),
        (
            "SUBSCRIBE c\nCLIENT REPLY OFF\nMULTI\nPUBLISH c x\nEXEC\nPING\nCLIENT REPLY ON\n",
            &format!(">3 $9 subscribe $1 c :1 {message}+OK "),
        ),
        (
            "CLIENT REPLY OFF\nMULTI\nSUBSCRIBE c\nEXEC\nCLIENT REPLY ON\n",
            ">3 $9 subscribe $1 c :1 +OK ",
        ),
        ("CLIENT REPLY SKIP\nRESET\nHELLO 3\n", ""),
        ("CLIENT REPLY OFF\nRESET\nHELLO 3\n", "+RESET "),
    ] {
        for pieces in [false, true] {
            let scene = Scene::new()?;
            let client = scene.client()?;
            scene.ask(&client, "HELLO 3\n")?;
            let mut reply = String::new();
            if pieces {
                for line in script.split_inclusive('\n') {
                    reply += &scene.ask(&client, line)?;
                }
            } else {
                reply += &scene.ask(&client, script)?;
            }
            let (reply, _) = reply.split_once('%').unwrap_or((&reply, ""));
            assert_eq!(reply, wanted, "{script}");
            assert!(scene.ask(&client, "ECHO end\n")?.ends_with("$3 end "));
        }
    }
    Ok(())
}

/// Each publisher may cause a turn's input for the subscriber, and with the words around it more than that.
#[test]
fn a_subscriber_that_reads_is_not_ended_by_several_publishers() -> Result {
    const COUNT: usize = 50_000;
    let scene = scene_with_limit("pubsub 4mb 0 0")?;
    scene
        .network
        .set_conditions(Conditions::default().buffer(1 << 20));
    let subscriber = scene.client()?;
    assert!(scene.ask(&subscriber, "SUBSCRIBE c\n")?.starts_with("*3 "));
    let publishers = [scene.client()?, scene.client()?, scene.client()?];
    let message = "x".repeat(200);
    let input = format!("PUBLISH c {message}\r\n").repeat(COUNT);
    for publisher in &publishers {
        publisher.send(input.clone());
    }
    scene.network.settle(&scene.event_loop)?;
    assert!(!subscriber.has_ended());
    let received = subscriber.take_received().len();
    let length = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$200\r\n\r\n".len() + message.len();
    assert_eq!(received, publishers.len() * COUNT * length);
    Ok(())
}
