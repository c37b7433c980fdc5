//! A few small stores that keep every rule, and what each change to them breaks.

use super::{super::testing, rules};

const DATA: &str = "
Resources:
  DataKey: { Type: AWS::KMS::Key, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { EnableKeyRotation: true, KeyPolicy: { Statement: [{ Effect: Allow, Principal: { AWS: 'arn:aws:iam::111122223333:root' }, Action: 'kms:*', Resource: '*' }] } } }
  LogsKey: { Type: AWS::KMS::Key, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { EnableKeyRotation: true } }
  LogsAlias: { Type: AWS::KMS::Alias, Properties: { AliasName: alias/l, TargetKeyId: !Ref LogsKey } }
  SecretsKey: { Type: AWS::KMS::Key, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { EnableKeyRotation: true } }
  BackupsKey: { Type: AWS::KMS::Key, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { EnableKeyRotation: true } }
  Parameters: { Type: AWS::RDS::DBClusterParameterGroup, Properties: { Parameters: { server_audit_logging: '1', require_secure_transport: 'ON', tls_version: 'TLSv1.2,TLSv1.3' } } }
  Cluster:
    Type: AWS::RDS::DBCluster
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties:
      Engine: aurora-mysql
      DBClusterParameterGroupName: !Ref Parameters
      MasterUsername: admin
      ManageMasterUserPassword: true
      MasterUserSecret: { KmsKeyId: !Ref SecretsKey }
      EnableIAMDatabaseAuthentication: true
      StorageEncrypted: true
      KmsKeyId: !GetAtt DataKey.Arn
      BackupRetentionPeriod: 35
      CopyTagsToSnapshot: true
      DeletionProtection: true
      EnableCloudwatchLogsExports: [audit, error, slowquery]
      Tags: [{ Key: Backup, Value: 'yes' }]
  One: { Type: AWS::RDS::DBInstance, Properties: { DBClusterIdentifier: !Ref Cluster, AvailabilityZone: a } }
  Two: { Type: AWS::RDS::DBInstance, Properties: { DBClusterIdentifier: !Ref Cluster, AvailabilityZone: b } }
  User: { Type: AWS::ElastiCache::User, Properties: { AuthenticationMode: { Type: iam }, AccessString: 'on ~*' } }
  Users: { Type: AWS::ElastiCache::UserGroup, Properties: { UserIds: [!Ref User] } }
  Cache:
    Type: AWS::ElastiCache::ReplicationGroup
    DeletionPolicy: Snapshot
    UpdateReplacePolicy: Snapshot
    Properties:
      TransitEncryptionEnabled: true
      TransitEncryptionMode: required
      AtRestEncryptionEnabled: true
      KmsKeyId: !Ref DataKey
      UserGroupIds: [!Ref Users]
      SnapshotRetentionLimit: 7
      MultiAZEnabled: true
      AutomaticFailoverEnabled: true
      NumCacheClusters: 2
  Group: { Type: AWS::Logs::LogGroup, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { KmsKeyId: !Ref LogsKey } }
  Topic: { Type: AWS::SNS::Topic, Properties: { KmsMasterKeyId: !Ref LogsAlias } }
  LogBucket:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      PublicAccessBlockConfiguration: { BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true }
      VersioningConfiguration: { Status: Enabled }
      BucketEncryption: { ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: AES256 } }] }
      OwnershipControls: { Rules: [{ ObjectOwnership: BucketOwnerEnforced }] }
  LogBucketPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref LogBucket
      PolicyDocument: { Statement: [{ Effect: Deny, Principal: '*', Action: 's3:*', Resource: [!GetAtt LogBucket.Arn, !Sub '${LogBucket.Arn}/*'], Condition: { Bool: { aws:SecureTransport: 'false' } } }] }
  Archive:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
    UpdateReplacePolicy: Retain
    Properties:
      PublicAccessBlockConfiguration: { BlockPublicAcls: true, BlockPublicPolicy: true, IgnorePublicAcls: true, RestrictPublicBuckets: true }
      VersioningConfiguration: { Status: Enabled }
      BucketEncryption: { ServerSideEncryptionConfiguration: [{ ServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms', KMSMasterKeyID: !Ref BackupsKey } }] }
      OwnershipControls: { Rules: [{ ObjectOwnership: BucketOwnerEnforced }] }
      ObjectLockEnabled: true
      ObjectLockConfiguration: { Rule: { DefaultRetention: { Mode: GOVERNANCE, Days: 35 } } }
      LifecycleConfiguration: { Rules: [{ Id: x }] }
      LoggingConfiguration: { DestinationBucketName: !Ref LogBucket }
  Balancer: { Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: { LoadBalancerAttributes: [{ Key: access_logs.s3.bucket, Value: !Ref LogBucket }] } }
  ArchivePolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Archive
      PolicyDocument: { Statement: [{ Effect: Deny, Principal: { AWS: '*' }, Action: ['s3:*'], Resource: [!GetAtt Archive.Arn, !Sub '${Archive.Arn}/*'], Condition: { Bool: { aws:SecureTransport: false } } }] }
  Vault: { Type: AWS::Backup::BackupVault, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { EncryptionKeyArn: !GetAtt BackupsKey.Arn, LockConfiguration: { MinRetentionDays: 7 } } }
  Plan: { Type: AWS::Backup::BackupPlan, Properties: { BackupPlan: { BackupPlanRule: [{ ScheduleExpression: 'cron(0 3 * * ? *)', TargetBackupVault: !Ref Vault, Lifecycle: { DeleteAfterDays: 35 } }] } } }
  Selection: { Type: AWS::Backup::BackupSelection, Properties: { BackupPlanId: !Ref Plan, BackupSelection: { IamRoleArn: r, ListOfTags: [{ ConditionType: STRINGEQUALS, ConditionKey: Backup, ConditionValue: 'yes' }] } } }
  Drill: { Type: AWS::Backup::RestoreTestingPlan, Properties: { RestoreTestingPlanName: drill, RecoveryPointSelection: { IncludeVaults: [!GetAtt Vault.BackupVaultArn] } } }
  DrillOf: { Type: AWS::Backup::RestoreTestingSelection, Properties: { RestoreTestingPlanName: drill } }
  Secret: { Type: AWS::SecretsManager::Secret, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Properties: { KmsKeyId: !Ref SecretsKey, GenerateSecretString: {} } }
  Schedule: { Type: AWS::SecretsManager::RotationSchedule, Properties: { SecretId: !Ref Secret, RotationLambdaARN: !GetAtt Function.Arn, RotationRules: { AutomaticallyAfterDays: 30 } } }
  Function: { Type: AWS::Lambda::Function, Properties: { Code: { ZipFile: 'token = event[1]; secret = x' }, Environment: { Variables: { SECRET_ARN: x } } } }
  MayCall: { Type: AWS::Lambda::Permission, Properties: { FunctionName: !Ref Function, Principal: secretsmanager.amazonaws.com, Action: 'lambda:InvokeFunction' } }
  Template: { Type: AWS::EC2::LaunchTemplate, Properties: { LaunchTemplateData: { UserData: { Fn::Base64: 'install palisade' }, BlockDeviceMappings: [{ Ebs: { Encrypted: true, KmsKeyId: !GetAtt DataKey.Arn } }] } } }
Outputs:
  Name: { Value: !Ref Cluster }
  MastersSecret: { Value: !GetAtt Cluster.MasterUserSecret.SecretArn }
";

#[test]
fn stores_that_keep_all_rules_break_one_with_each_change() {
    testing::each_change_is_found(
        &rules(),
        "data",
        DATA,
        &[
            ("StorageEncrypted: true", "StorageEncrypted: false", "D01 storage is not encrypted"),
            ("EnableIAMDatabaseAuthentication: true", "X: 1", "D01 log in by IAM"),
            ("DeletionProtection: true", "DeletionProtection: false", "D01 one call deletes it"),
            ("BackupRetentionPeriod: 35", "BackupRetentionPeriod: 34", "D01 34 days, not 35"),
            ("CopyTagsToSnapshot: true", "CopyTagsToSnapshot: false", "D01 lose the tags"),
            ("[audit, error, slowquery]", "[error, slowquery]", "D01 its audit log"),
            (
                "server_audit_logging: '1'",
                "server_audit_logging: '0'",
                "D01 nobody writes the audit log",
            ),
            ("AvailabilityZone: b", "AvailabilityZone: a", "D01 in two zones"),
            (", AvailabilityZone: b", "", "D01 in two zones"),
            (
                "Two: { Type: AWS::RDS::DBInstance",
                "Two: { Type: AWS::RDS::Other",
                "D01 one instance",
            ),
            (
                "require_secure_transport: 'ON'",
                "require_secure_transport: 'OFF'",
                "D02 plain connections",
            ),
            ("'TLSv1.2,TLSv1.3'", "'TLSv1.1,TLSv1.2'", "D02 older than 1.2"),
            (", tls_version: 'TLSv1.2,TLSv1.3'", "", "D02 older than 1.2"),
            ("      DBClusterParameterGroupName: !Ref Parameters\n", "", "D02 AWS's parameters"),
            (
                "TransitEncryptionEnabled: true",
                "TransitEncryptionEnabled: false",
                "D03 plain connections",
            ),
            (
                "TransitEncryptionMode: required",
                "TransitEncryptionMode: preferred",
                "D03 beside those",
            ),
            (
                "AtRestEncryptionEnabled: true",
                "AtRestEncryptionEnabled: false",
                "D03 not encrypted",
            ),
            ("UserGroupIds: [!Ref Users]", "UserGroupIds: []", "D03 whoever reaches it"),
            (
                "AuthenticationMode: { Type: iam }",
                "AuthenticationMode: { Type: no-password-required }",
                "D03 without proof",
            ),
            ("SnapshotRetentionLimit: 7", "SnapshotRetentionLimit: 1", "D03 less than 7"),
            ("MultiAZEnabled: true", "MultiAZEnabled: false", "D03 in one zone"),
            ("AutomaticFailoverEnabled: true", "X: 1", "D03 nothing takes over"),
            ("NumCacheClusters: 2", "NumCacheClusters: 1", "D03 it has one node"),
            (
                "KmsKeyId: !GetAtt DataKey.Arn\n",
                "KmsKeyId: !GetAtt LogsKey.Arn\n",
                "D04 LogsKey is not the key for data",
            ),
            ("      KmsKeyId: !GetAtt DataKey.Arn\n", "", "D04 a key of AWS's"),
            (
                "KmsKeyId: !GetAtt DataKey.Arn\n",
                "KmsKeyId: alias/aws/rds\n",
                "D04 is no key of this",
            ),
            ("MasterUserSecret: { KmsKeyId: !Ref SecretsKey }", "X: 1", "D04 a key of AWS's"),
            (
                "EncryptionKeyArn: !GetAtt BackupsKey.Arn",
                "EncryptionKeyArn: !GetAtt DataKey.Arn",
                "D04 not the key for backups",
            ),
            ("KmsKeyId: !GetAtt DataKey.Arn }", "X: 1 }", "D04 a key of AWS's"),
            (
                "KmsMasterKeyId: !Ref LogsAlias",
                "KmsMasterKeyId: !Ref DataKey",
                "D04 not the key for logs",
            ),
            ("EnableKeyRotation: true", "EnableKeyRotation: false", "D04 does not rotate"),
            ("{ AWS: 'arn:aws:iam::111122223333:root' }", "'*'", "D04 everybody may use it"),
            ("BlockPublicPolicy: true", "BlockPublicPolicy: false", "D05 no BlockPublicPolicy"),
            (
                "VersioningConfiguration: { Status: Enabled }",
                "VersioningConfiguration: { Status: Suspended }",
                "D05 is lost",
            ),
            ("SSEAlgorithm: AES256", "X: 1", "D05 how it is encrypted"),
            ("BucketOwnerEnforced", "ObjectWriter", "D05 and not its policy"),
            (
                "      LoggingConfiguration: { DestinationBucketName: !Ref LogBucket }\n",
                "",
                "D05 who read it",
            ),
            (
                "DestinationBucketName: !Ref LogBucket",
                "DestinationBucketName: !Ref Archive",
                "D05 without end",
            ),
            ("Mode: GOVERNANCE", "Mode: COMPLIANCE", "D05 only a parameter"),
            (", Days: 35", "", "D05 not locked unless"),
            ("      ObjectLockEnabled: true\n", "", "D05 no bucket has object lock"),
            ("LifecycleConfiguration: { Rules: [{ Id: x }] }", "X: 1", "D05 for ever"),
            (
                "aws:SecureTransport: 'false'",
                "aws:SecureTransport: 'true'",
                "D05 LogBucketPolicy lets plain",
            ),
            (
                "[!GetAtt LogBucket.Arn, !Sub '${LogBucket.Arn}/*']",
                "[!GetAtt LogBucket.Arn]",
                "D05 lets plain",
            ),
            (
                "Effect: Deny, Principal: { AWS: '*' }",
                "Effect: Deny, Principal: { AWS: x }",
                "D05 ArchivePolicy lets plain",
            ),
            (
                "Effect: Deny, Principal: '*', Action: 's3:*'",
                "Effect: Deny, Principal: '*', Action: 's3:GetObject'",
                "D05 lets plain",
            ),
            ("Key: Backup, Value: 'yes'", "Key: Backup, Value: 'no'", "D06 no backup plan"),
            ("ConditionKey: Backup", "ConditionKey: Other", "D06 no backup plan"),
            (", LockConfiguration: { MinRetentionDays: 7 }", "", "D06 empties the vault"),
            (
                "MinRetentionDays: 7",
                "MinRetentionDays: 7, ChangeableForDays: 3",
                "D06 only a parameter",
            ),
            ("TargetBackupVault: !Ref Vault", "TargetBackupVault: Default", "D06 no vault of this"),
            ("DeleteAfterDays: 35", "DeleteAfterDays: 3", "D06 before 35 days"),
            ("BackupPlanId: !Ref Plan", "BackupPlanId: x", "D06 for no plan"),
            (
                "IncludeVaults: [!GetAtt Vault.BackupVaultArn]",
                "IncludeVaults: [x]",
                "D06 tries nothing",
            ),
            (
                "Type: AWS::Backup::RestoreTestingPlan",
                "Type: AWS::Backup::Framework",
                "D06 nobody tries",
            ),
            (
                "RestoreTestingSelection, Properties: { RestoreTestingPlanName: drill }",
                "RestoreTestingSelection, Properties: { RestoreTestingPlanName: x }",
                "D06 nothing to restore",
            ),
            ("    UpdateReplacePolicy: Snapshot\n", "", "D07 no UpdateReplacePolicy"),
            ("    DeletionPolicy: Snapshot\n", "    DeletionPolicy: Delete\n", "D07 throws away"),
            ("'install palisade'", "'export DB_PASSWORD=hunter22'", "D07 started with a secret"),
            ("'install palisade'", "'x AKIAABCDEFGHIJKLMNOP'", "D07 a key in the open"),
            ("{ SECRET_ARN: x }", "{ API_TOKEN: x }", "D07 API_TOKEN is in the environment"),
            ("GenerateSecretString: {}", "SecretString: hunter2", "D07 SecretString is written"),
            (
                "Value: !Ref Cluster",
                "Value: '{{resolve:secretsmanager:x}}'",
                "D07 reads this secret",
            ),
            (
                "Resources:",
                "Parameters: { DbPassword: { Type: String, Default: x } }\nResources:",
                "D07 a secret as a parameter",
            ),
            (
                "Resources:",
                "Parameters: { Pin: { Type: String, NoEcho: true, Default: x } }\nResources:",
                "D07 a secret as a parameter",
            ),
            (
                "  Group:",
                "  P: { Type: AWS::SSM::Parameter, Properties: { Name: /p/db-password, Value: x } }\n  Group:",
                "D07 read in the open",
            ),
            ("AutomaticallyAfterDays: 30", "AutomaticallyAfterDays: 120", "D08 every 120 days"),
            ("AutomaticallyAfterDays: 30", "X: 1", "D08 nothing says how often"),
            ("SecretId: !Ref Secret", "SecretId: x", "D08 nothing ever changes"),
            (
                "RotationLambdaARN: !GetAtt Function.Arn",
                "RotationLambdaARN: x",
                "D08 is no function",
            ),
            (
                "Principal: secretsmanager.amazonaws.com",
                "Principal: s3.amazonaws.com",
                "D08 may not call",
            ),
            (
                "ManageMasterUserPassword: true",
                "ManageMasterUserPassword: false",
                "D08 master's password",
            ),
        ],
    );
}

#[test]
fn an_empty_environment_keeps_no_rule_of_data_by_having_nothing() {
    let told = testing::world(&[("a", "Resources: {}")]).says(&rules());
    let first: Vec<_> = told.iter().filter_map(|t| t.split(' ').next()).collect();
    assert_eq!(first, ["D01", "D03", "D04", "D05", "D06"], "{told:?}");
}

#[test]
fn outside_of_production_one_of_each_is_enough() {
    let small = DATA
        .replace("BackupRetentionPeriod: 35", "BackupRetentionPeriod: 1")
        .replace("DeletionProtection: true", "DeletionProtection: false")
        .replace("Two: { Type: AWS::RDS::DBInstance", "Two: { Type: AWS::RDS::Other")
        .replace("NumCacheClusters: 2", "NumCacheClusters: 1")
        .replace("MultiAZEnabled: true", "MultiAZEnabled: false")
        .replace("SnapshotRetentionLimit: 7", "SnapshotRetentionLimit: 1");
    assert_eq!(testing::world(&[("data", &small)]).says(&rules()), [""; 0]);
}

#[test]
fn stores_are_chosen_by_arn_and_by_all_conditions_too() {
    let by = |selection: &str| {
        let tags = "ListOfTags: [{ ConditionType: STRINGEQUALS, ConditionKey: Backup, ConditionValue: 'yes' }]";
        assert!(DATA.contains(tags));
        let text = DATA.replace(tags, selection);
        testing::world(&[("data", &text)]).says(&rules()).is_empty()
    };
    assert!(by("Resources: ['arn:aws:rds:*:*:cluster:*']"));
    assert!(!by("Resources: ['arn:aws:rds:*:*:db:*']"));
    assert!(!by("Resources: ['*'], NotResources: ['arn:aws:rds:*']"));
    let conditions = |value| {
        let pair = format!("{{ ConditionKey: aws:ResourceTag/Backup, ConditionValue: '{value}' }}");
        format!("Resources: ['*'], Conditions: {{ StringEquals: [{pair}] }}")
    };
    assert!(by(&conditions("yes")) && !by(&conditions("no")));
}

#[test]
fn a_secret_that_others_give_out_need_not_change_and_holds_no_value() {
    let licence = |properties: &str| {
        let secret = format!(
            "  Licence: {{ Type: AWS::SecretsManager::Secret, DeletionPolicy: Retain, UpdateReplacePolicy: Retain, Metadata: {{ Palisade: {{ RotatedBy: New Relic }} }}, Properties: {{ KmsKeyId: !Ref SecretsKey {properties} }} }}\nOutputs:"
        );
        testing::world(&[("data", &DATA.replace("Outputs:", &secret))]).says(&rules())
    };
    assert_eq!(licence(""), [""; 0]);
    let told = licence(", GenerateSecretString: {}");
    assert!(matches!(told.as_slice(), [one] if one.starts_with("D08 data.Licence")), "{told:?}");
}

#[test]
fn two_classes_that_share_a_key_alike_are_both_told() {
    let shared = DATA
        .replace("KmsKeyId: !Ref LogsKey", "KmsKeyId: !Ref BackupsKey")
        .replace("KMSMasterKeyID: !Ref BackupsKey", "KMSMasterKeyID: !Ref DataKey");
    let told = testing::world(&[("data", &shared)]).says(&rules());
    let who: Vec<_> = told.iter().filter_map(|t| t.split([' ', ':']).nth(1)).collect();
    assert_eq!(who, ["data.Group", "data.Archive", "data.Vault"], "{told:?}");
}
