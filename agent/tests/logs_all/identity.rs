//! What a file is known by: inodes that come back with another file.

use std::fs;

use crate::common::*;

#[tokio::test]
async fn a_file_with_the_inode_of_an_empty_one_has_a_stream_of_its_own() {
    let (place, cloud) = (Place::new(), Cloud::default());
    write(&place.log("a.log"), "");
    let agent = Agent::start(place.settings("*.log"), &cloud).await;
    wait_until("it to be known", || agent.handle.status().sources.len() == 1).await;
    fs::rename(place.log("a.log"), place.log("a.log.1")).unwrap();
    wait_until("it to be closed", || agent.handle.status().sources.is_empty()).await;
    // Stands for a file that was made after the other was removed.
    fs::rename(place.log("a.log.1"), place.log("b.log")).unwrap();
    write(&place.log("b.log"), &numbered(0..10));
    wait_until("its lines", || cloud.lines().len() >= 10).await;
    agent.flush().await;
    agent.stop().await;
    let streams = cloud.streams();
    assert!(streams.len() == 1 && streams[0].ends_with("b.log"), "{streams:?}");
    assert_eq!(lost_and_doubled(&cloud.lines(), 10), (0, 0));
}
