//! The memory of results that their clients do not take.

use asynchat::Result;
use asynchat::sim::Peer;

use crate::long::fill;
use crate::scene::{Scene, received};

/// The replies to these commands need a result as a whole. Clients cannot keep many of them by not reading.
#[test]
fn results_that_clients_do_not_take_have_a_limit_together() -> Result {
    let scene = Scene::new()?;
    let (client, reader) = (scene.client()?, scene.client()?);
    fill(&scene, &client)?;
    for part in 0..20 {
        let numbers = part * 1_000..(part + 1) * 1_000;
        let keys: String = numbers.map(|it| format!(" key-{it} x")).collect();
        let members = keys.replace(" x", &"x".repeat(40));
        let same = " x".repeat(1_000);
        let script = format!("MSET{keys}\nSADD long{members}\nRPUSH same{same}\n");
        scene.ask(&client, &script)?;
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
    ] {
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
