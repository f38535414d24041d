//! The memory of results that their clients do not take.

use asynchat::Result;
use asynchat::sim::Peer;

use crate::long::fill;
use crate::scene::{Scene, received};

/// The replies to these commands need a result as a whole. Clients cannot keep many of them by not reading.
#[test]
fn results_that_clients_do_not_take_have_a_limit_together() -> Result {
    let scene = Scene::new()?;
    let (client, reader, subscriber) = (scene.client()?, scene.client()?, scene.client()?);
    // What it retains has another limit.
    scene.ask(&subscriber, "CLIENT NO-EVICT ON\n")?;
    fill(&scene, &client)?;
    for part in 0..20 {
        let numbers = part * 1_000..(part + 1) * 1_000;
        let keys: String = numbers.map(|it| format!(" key-{it} x")).collect();
        let members = keys.replace(" x", &"x".repeat(40));
        let same = " x".repeat(1_000);
        let script = format!("MSET{keys}\nSADD long{members}\nRPUSH same{same}\n");
        scene.ask(&client, &script)?;
        let channels = keys.replace(" x", "");
        scene.ask(&subscriber, &format!("SUBSCRIBE{channels}\n"))?;
    }
    for (request, elements) in [
        ("SORT l", 20_000),
        ("SORT s ALPHA", 20_000),
        ("SORT l BY nosort GET #", 20_000),
        ("SUNION s s2", 20_000),
        ("ZUNION 1 z", 20_000),
        ("KEYS *", 20_006),
        ("LPOS same x COUNT 0", 20_000),
        ("SRANDMEMBER long 6000", 6_000),
        ("PUBSUB CHANNELS", 20_000),
    ] {
        scene.ask(&client, "CONFIG SET maxmemory-clients 1gb\n")?;
        reader.start_reading(20_000);
        reader.send(format!("{request}\r\n"));
        scene.network.settle(&scene.event_loop)?;
        let limit = 8 * scene.shared.results.total();
        scene.ask(&client, &format!("CONFIG SET maxmemory-clients {limit}\n"))?;
        let mut reply = String::new();
        let mut others = Vec::new();
        for _ in 0..24 {
            let other = scene.client()?;
            other.stop_reading();
            other.send(format!("{request}\r\n"));
            others.push(other);
            scene.network.settle(&scene.event_loop)?;
            let total = scene.shared.results.total();
            assert!(0 < total && total <= limit, "{request}: {total} bytes");
            // This one reads slowly.
            reply += &received(&reader);
            reader.start_reading(20_000);
        }
        let ended = others.iter().filter(|it| it.ended().is_some()).count();
        assert!((8..24).contains(&ended), "{request}: {ended} are ended");
        reader.start_reading(usize::MAX);
        scene.network.settle(&scene.event_loop)?;
        reply += &received(&reader);
        assert!(reply.starts_with(&format!("*{elements} ")), "{reply:.20}");
        let found = reply.matches(['$', ':']).count();
        assert_eq!(found, elements, "{request}");
        others.iter().for_each(Peer::reset);
        scene.network.settle(&scene.event_loop)?;
        assert_eq!(scene.shared.results.total(), 0, "{request}");
    }
    let info = scene.ask(&reader, "INFO stats\n")?;
    assert!(!info.contains("evicted_clients:0 "), "{info}");
    Ok(())
}

#[test]
fn a_result_that_is_larger_than_the_limit_ends_its_connection() -> Result {
    let scene = Scene::new()?;
    let (client, other) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    scene.ask(&other, "CONFIG SET maxmemory-clients 100kb\n")?;
    scene.ask(&client, "SORT l\n")?;
    assert!(client.ended().is_some());
    // 0 is no limit.
    assert_eq!(
        scene.ask(&other, "CONFIG SET maxmemory-clients 0\n")?,
        "+OK "
    );
    assert!(scene.ask(&other, "SORT l\n")?.starts_with("*20000 "));
    Ok(())
}

/// The channels that were found may be all that is left of the subscriptions of clients that have left.
#[test]
fn a_list_of_channels_that_is_larger_than_the_limit_ends_its_connection() -> Result {
    for script in ["PUBSUB CHANNELS\n", "MULTI\nPUBSUB CHANNELS\nEXEC\n"] {
        let scene = Scene::new()?;
        let (client, subscriber) = (scene.client()?, scene.client()?);
        scene.ask(&subscriber, "CLIENT NO-EVICT ON\n")?;
        for part in 0..10 {
            let numbers = part * 1_000..(part + 1) * 1_000;
            let channels: String = numbers.map(|it| format!(" channel-{it}")).collect();
            scene.ask(&subscriber, &format!("SUBSCRIBE{channels}\n"))?;
        }
        let reply = scene.ask(&client, script)?;
        assert_eq!(reply.matches(" channel-").count(), 10_000);
        assert_eq!(scene.shared.results.total(), 0);
        scene.ask(&client, "CONFIG SET maxmemory-clients 100kb\n")?;
        let reply = scene.ask(&client, script)?;
        assert!(client.has_ended() && !reply.contains(" channel-"));
        assert_eq!(scene.shared.results.total(), 0);
    }
    Ok(())
}

/// A part of a result keeps all of its memory.
#[test]
fn a_result_counts_as_a_whole_until_its_last_part_is_taken() -> Result {
    let scene = Scene::new()?;
    let reader = scene.client()?;
    for part in 0..20 {
        let keys: String = (0..1_000).map(|it| format!(" key-{part}-{it} x")).collect();
        let same = " x".repeat(1_000);
        scene.ask(&reader, &format!("MSET{keys}\nRPUSH same{same}\n"))?;
    }
    for (request, least) in [
        ("KEYS *", 20_000 * "$7\r\nkey-0-0\r\n".len()),
        ("LPOS same x COUNT 0", 20_000 * size_of::<usize>()),
    ] {
        reader.start_reading(1_000);
        reader.send(format!("{request}\r\n"));
        let (mut at_end, mut reply) = (0, String::new());
        loop {
            scene.network.settle(&scene.event_loop)?;
            let part = received(&reader);
            if part.is_empty() {
                break;
            }
            reply += &part;
            match scene.shared.results.total() {
                0 => {}
                total => at_end = total,
            }
            reader.start_reading(1_000);
        }
        assert!(reply.starts_with("*2000"), "{request}: {reply:.20}");
        assert!(at_end >= least, "{request}: {at_end} bytes");
    }
    Ok(())
}

#[test]
fn a_large_result_does_not_end_clients_with_small_ones() -> Result {
    let scene = Scene::new()?;
    let (client, small, large) = (scene.client()?, scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    let elements: String = (0..8_000).map(|it| format!(" {it}")).collect();
    scene.ask(&client, &format!("RPUSH few{elements}\n"))?;
    small.start_reading(100);
    small.send("SORT few\r\n");
    scene.network.settle(&scene.event_loop)?;
    let total = scene.shared.results.total();
    assert!(total > 0);
    // More than both have until the large one has more than half of it.
    let limit = 9 * total / 4;
    scene.ask(&client, &format!("CONFIG SET maxmemory-clients {limit}\n"))?;
    scene.ask(&large, "SORT l\n")?;
    assert!(large.ended().is_some());
    small.start_reading(usize::MAX);
    scene.network.settle(&scene.event_loop)?;
    let reply = received(&small);
    assert!(reply.starts_with("*8000 "), "{reply:.20}");
    assert!(reply.ends_with("$4 7999 "), "the whole reply");
    Ok(())
}
