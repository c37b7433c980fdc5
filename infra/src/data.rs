//! Which types of resources hold something that cannot be made again from a template. Pure.

/// Whether a resource of this type holds data.
///
/// Log groups count because an audit asks for them, keys because what they encrypted is lost with
/// them, and member instances of a cluster do not because the cluster holds what they serve.
pub(crate) fn holds_data(kind: &str) -> bool {
    const KINDS: &[&str] = &[
        "AWS::Backup::BackupVault",
        "AWS::CloudTrail::EventDataStore",
        "AWS::DynamoDB::GlobalTable",
        "AWS::DynamoDB::Table",
        "AWS::EC2::Volume",
        "AWS::ECR::Repository",
        "AWS::EFS::FileSystem",
        "AWS::ElastiCache::CacheCluster",
        "AWS::ElastiCache::ReplicationGroup",
        "AWS::ElastiCache::ServerlessCache",
        "AWS::KMS::Key",
        "AWS::KMS::ReplicaKey",
        "AWS::Kinesis::Stream",
        "AWS::Logs::LogGroup",
        "AWS::RDS::DBCluster",
        "AWS::RDS::GlobalCluster",
        "AWS::S3::Bucket",
        "AWS::SQS::Queue",
        "AWS::SecretsManager::Secret",
    ];
    // Sorted, which the test below sees to.
    KINDS.binary_search(&kind).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_data_is_known_and_what_can_be_made_again_is_not_among_it() {
        for kind in [
            "AWS::Backup::BackupVault",
            "AWS::ElastiCache::ReplicationGroup",
            "AWS::KMS::Key",
            "AWS::Logs::LogGroup",
            "AWS::RDS::DBCluster",
            "AWS::S3::Bucket",
            "AWS::SQS::Queue",
            "AWS::SecretsManager::Secret",
        ] {
            assert!(holds_data(kind), "{kind}");
        }
        for kind in ["AWS::EC2::VPC", "AWS::RDS::DBInstance", "AWS::S3::BucketPolicy", ""] {
            assert!(!holds_data(kind), "{kind}");
        }
    }
}
