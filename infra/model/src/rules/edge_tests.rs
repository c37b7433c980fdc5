//! One small edge that keeps every rule, and what each change to it breaks.

use super::{super::testing, rules};

const EDGE: &str = "
Conditions:
  IsA: !Equals [a, a]
  IsB: !Equals [a, b]
  Always: !Equals [a, a]
Resources:
  Acl:
    Type: AWS::WAFv2::WebACL
    Properties:
      Scope: CLOUDFRONT
      Rules:
        - { Name: bad, Priority: 1, OverrideAction: { None: {} }, Statement: { ManagedRuleGroupStatement: { Name: AWSManagedRulesAmazonIpReputationList } } }
        - { Name: rate, Priority: 2, Action: { Block: {} }, Statement: { RateBasedStatement: { Limit: 2000 } } }
        - { Name: xss, Priority: 3, OverrideAction: { None: {} }, Statement: { ManagedRuleGroupStatement: { Name: AWSManagedRulesCommonRuleSet } } }
        - { Name: in, Priority: 4, OverrideAction: { None: {} }, Statement: { ManagedRuleGroupStatement: { Name: AWSManagedRulesKnownBadInputsRuleSet } } }
        - { Name: sql, Priority: 5, OverrideAction: { None: {} }, Statement: { ManagedRuleGroupStatement: { Name: AWSManagedRulesSQLiRuleSet } } }
  Regional: { Type: AWS::WAFv2::WebACL, Properties: { Scope: REGIONAL } }
  RegionalLog: { Type: AWS::WAFv2::LoggingConfiguration, Properties: { ResourceArn: !GetAtt Regional.Arn, LogDestinationConfigs: [x], RedactedFields: [{ SingleHeader: { Name: Cookie } }, { SingleHeader: { Name: Authorization } }] } }
  Log: { Type: AWS::WAFv2::LoggingConfiguration, Properties: { ResourceArn: !GetAtt Acl.Arn, LogDestinationConfigs: [x], RedactedFields: [{ SingleHeader: { Name: cookie } }, { SingleHeader: { Name: authorization } }] } }
  Balancer: { Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: { Scheme: internal } }
  Listener:
    Type: AWS::ElasticLoadBalancingV2::Listener
    Properties:
      LoadBalancerArn: !Ref Balancer
      Port: 443
      Protocol: HTTPS
      DefaultActions: [{ Type: fixed-response }]
  ListenerRule:
    Type: AWS::ElasticLoadBalancingV2::ListenerRule
    Properties:
      ListenerArn: !Ref Listener
      Actions: [{ Type: forward }]
      Conditions: [{ Field: http-header, HttpHeaderConfig: { HttpHeaderName: x-secret, Values: ['{{resolve:secretsmanager:arn:aws:secretsmanager:eu-west-1:111122223333:secret:one-abc:SecretString}}'] } }]
  A:
    Type: AWS::CloudFront::VpcOrigin
    Condition: IsA
    Properties:
      VpcOriginEndpointConfig: { Arn: !Ref Balancer, HTTPSPort: 443, OriginProtocolPolicy: https-only, OriginSSLProtocols: [TLSv1.2] }
  B:
    Type: AWS::CloudFront::VpcOrigin
    Condition: IsB
    Properties:
      VpcOriginEndpointConfig: { Arn: !Ref Balancer, HTTPSPort: 443, OriginProtocolPolicy: https-only, OriginSSLProtocols: [TLSv1.2] }
  NoCache: { Type: AWS::CloudFront::CachePolicy, Properties: { CachePolicyConfig: { MinTTL: 0, DefaultTTL: 0, MaxTTL: 0 } } }
  Everything: { Type: AWS::CloudFront::OriginRequestPolicy, Properties: { OriginRequestPolicyConfig: { HeadersConfig: { HeaderBehavior: allViewer }, CookiesConfig: { CookieBehavior: all }, QueryStringsConfig: { QueryStringBehavior: all } } } }
  Headers:
    Type: AWS::CloudFront::ResponseHeadersPolicy
    Properties:
      ResponseHeadersPolicyConfig:
        SecurityHeadersConfig: { StrictTransportSecurity: { AccessControlMaxAgeSec: 31536000, Override: true }, ContentTypeOptions: {}, FrameOptions: {} }
  Control: { Type: AWS::CloudFront::OriginAccessControl, Properties: { OriginAccessControlConfig: { SigningBehavior: always } } }
  Files: { Type: AWS::S3::Bucket, Properties: {} }
  FilesPolicy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: !Ref Files
      PolicyDocument:
        Statement:
          - { Effect: Allow, Principal: { Service: cloudfront.amazonaws.com }, Action: 's3:GetObject', Resource: '*', Condition: { StringEquals: { aws:SourceArn: !Sub 'arn:aws:cloudfront::${AWS::AccountId}:distribution/${Site}' } } }
  Site:
    Type: AWS::CloudFront::Distribution
    Properties:
      DistributionConfig:
        WebACLId: !GetAtt Acl.Arn
        ViewerCertificate: { AcmCertificateArn: arn:aws:acm:us-east-1:111122223333:certificate/x, MinimumProtocolVersion: TLSv1.2_2021, SslSupportMethod: sni-only }
        Origins:
          - Id: app
            DomainName: !GetAtt Balancer.DNSName
            VpcOriginConfig: { VpcOriginId: !If [IsA, !Ref A, !Ref B] }
            OriginCustomHeaders: [{ HeaderName: X-Secret, HeaderValue: '{{resolve:secretsmanager:one:SecretString}}' }]
          - { Id: files, DomainName: !GetAtt Files.RegionalDomainName, OriginAccessControlId: !Ref Control, S3OriginConfig: { OriginAccessIdentity: '' } }
        DefaultCacheBehavior: { TargetOriginId: app, ViewerProtocolPolicy: redirect-to-https, AllowedMethods: [GET, HEAD, OPTIONS, PUT, PATCH, POST, DELETE], CachePolicyId: !Ref NoCache, OriginRequestPolicyId: !Ref Everything, ResponseHeadersPolicyId: !Ref Headers }
        CacheBehaviors:
          - { TargetOriginId: files, ViewerProtocolPolicy: https-only, AllowedMethods: [GET, HEAD], CachePolicyId: x, ResponseHeadersPolicyId: !Ref Headers }
  Source: { Type: AWS::Logs::DeliverySource, Properties: { Name: s, LogType: ACCESS_LOGS, ResourceArn: !Sub 'arn:aws:cloudfront::${AWS::AccountId}:distribution/${Site}' } }
  Destination: { Type: AWS::Logs::DeliveryDestination, Properties: { Name: d } }
  Delivery: { Type: AWS::Logs::Delivery, Properties: { DeliverySourceName: !Ref Source, DeliveryDestinationArn: !GetAtt Destination.Arn, RecordFields: [date, cs-method] } }
";

#[test]
fn an_edge_that_keeps_all_rules_breaks_one_with_each_change() {
    let forward = "{ Type: fixed-response }";
    testing::each_change_is_found(
        &rules(),
        "global",
        EDGE,
        &[
            ("        WebACLId: !GetAtt Acl.Arn\n", "", "E01 no web firewall before it"),
            (
                "WebACLId: !GetAtt Acl.Arn",
                "WebACLId: !GetAtt Regional.Arn",
                "E01 has REGIONAL scope",
            ),
            (
                "WebACLId: !GetAtt Acl.Arn",
                "WebACLId: arn:aws:wafv2:other",
                "E01 is no web firewall",
            ),
            ("Name: AWSManagedRulesSQLiRuleSet", "Name: Other", "E02 nothing is against SQL"),
            ("OverrideAction: { None: {} }", "OverrideAction: { Count: {} }", "E02 only counts"),
            ("Action: { Block: {} }", "Action: { Count: {} }", "E02 is not blocked"),
            ("Limit: 2000", "Limit: 2000000000", "E02 are no limit"),
            (
                "{ Name: bad, Priority: 1,",
                "{ Name: in, Priority: 0, Action: { Allow: {} }, Statement: { GeoMatchStatement: {} } }\n        - { Name: bad, Priority: 1,",
                "E02 in lets requests past",
            ),
            (
                "Name: AWSManagedRulesSQLiRuleSet",
                "Name: AWSManagedRulesSQLiRuleSet, ScopeDownStatement: {}",
                "E02 a part of the requests",
            ),
            (
                "Name: AWSManagedRulesSQLiRuleSet",
                "Name: AWSManagedRulesSQLiRuleSet, RuleActionOverrides: [{ Name: Q, ActionToUse: { Allow: {} } }]",
                "E02 what Q finds is allowed",
            ),
            (
                "Name: AWSManagedRulesSQLiRuleSet",
                "Name: AWSManagedRulesSQLiRuleSet, RuleActionOverrides: [{ Name: SizeRestrictions_BODY, ActionToUse: { Count: {} } }]",
                "E02 what SizeRestrictions_BODY finds is only counted",
            ),
            (
                "Name: AWSManagedRulesSQLiRuleSet",
                "Name: AWSManagedRulesSQLiRuleSet, ExcludedRules: [{ Name: Q }]",
                "E02 what Q finds is only counted",
            ),
            ("TLSv1.2_2021", "TLSv1_2016", "E03 may speak TLSv1_2016"),
            (
                "AcmCertificateArn: arn:aws:acm:us-east-1:111122223333:certificate/x, ",
                "",
                "E03 no certificate",
            ),
            ("SslSupportMethod: sni-only", "SslSupportMethod: vip", "E03 by SNI"),
            (
                "ViewerProtocolPolicy: https-only",
                "ViewerProtocolPolicy: allow-all",
                "E03 plain HTTP is served",
            ),
            (
                "OriginProtocolPolicy: https-only",
                "OriginProtocolPolicy: match-viewer",
                "E04 plain HTTP",
            ),
            (
                "OriginSSLProtocols: [TLSv1.2]",
                "OriginSSLProtocols: [TLSv1.2, TLSv1]",
                "E04 older than 1.2",
            ),
            ("OriginSSLProtocols: [TLSv1.2]", "X: 1", "E04 older than 1.2"),
            (
                "HTTPSPort: 443",
                "HTTPSPort: 8443",
                "E04 nothing of Balancer listens for TLS at port 8443",
            ),
            ("Protocol: HTTPS", "Protocol: HTTP", "E04 nothing of Balancer"),
            (forward, "{ Type: forward }", "E05 what comes without X-Secret"),
            ("Field: http-header", "Field: path-pattern", "E05 what comes without X-Secret"),
            (
                "HttpHeaderName: x-secret",
                "HttpHeaderName: x-other",
                "E05 what comes without X-Secret",
            ),
            (
                "eu-west-1:111122223333:secret:one-abc",
                "eu-west-1:111122223333:secret:two-abc",
                "E05 is not the secret",
            ),
            ("'{{resolve:secretsmanager:one:SecretString}}'", "hunter2", "E05 it sends no header"),
            (
                "one:SecretString}}' }]",
                "one:SecretString::AWSPENDING}}' }]",
                "E05 it sends no header",
            ),
            (
                "DomainName: !GetAtt Balancer.DNSName\n            VpcOriginConfig",
                "DomainName: other.example.com\n            CustomOriginConfig: { OriginProtocolPolicy: https-only, OriginSSLProtocols: [TLSv1.2] }\n            X",
                "E05 neither a VPC origin",
            ),
            ("OriginAccessControlId: !Ref Control,", "", "E06 not signed"),
            ("SigningBehavior: always", "SigningBehavior: no-override", "E06 not every request"),
            ("OriginAccessIdentity: ''", "OriginAccessIdentity: x", "E06 use access control"),
            (
                "distribution/${Site}' } } }",
                "distribution/*' } } }",
                "E06 distributions of anybody",
            ),
            (
                ", Condition: { StringEquals: { aws:SourceArn: !Sub 'arn:aws:cloudfront::${AWS::AccountId}:distribution/${Site}' } }",
                "",
                "E06 distributions of anybody",
            ),
            (
                "Effect: Allow, Principal: { Service",
                "Effect: Deny, Principal: { Service",
                "E06 nothing lets it read",
            ),
            (
                "Type: AWS::S3::Bucket, Properties: {}",
                "Type: AWS::S3::Bucket, Properties: { WebsiteConfiguration: { IndexDocument: i } }",
                "E06 as a website",
            ),
            ("arn:aws:acm:us-east-1", "arn:aws:acm:eu-west-1", "E07 certificates of us-east-1"),
            ("ResourceArn: !GetAtt Acl.Arn", "ResourceArn: x", "E08 logs no requests"),
            ("{ SingleHeader: { Name: authorization } }", "", "E08 authorization is written"),
            ("LogType: ACCESS_LOGS", "LogType: OTHER", "E08 it logs no requests"),
            ("DeliverySourceName: !Ref Source", "DeliverySourceName: x", "E08 nothing delivers"),
            ("RecordFields: [date,", "RecordFields: [cs(Cookie),", "E08 cookies are written"),
            ("RecordFields: [date, cs-method]", "X: 1", "E08 cookies are written"),
            (
                "Properties:\n      VpcOriginEndpointConfig",
                "Properties:\n      Tags: [{ Key: a, Value: b }]\n      VpcOriginEndpointConfig",
                "E09 a tag that changes",
            ),
            ("!If [IsA, !Ref A, !Ref B]", "!Ref A", "E09 one VPC origin only"),
            ("    Condition: IsA\n", "", "E09 it is always there"),
            ("MaxTTL: 0", "MaxTTL: 60", "E10 kept and served to others"),
            ("HEAD, OPTIONS, PUT, PATCH, POST, DELETE]", "HEAD]", "E10 gets no POST"),
            (
                "AllowedMethods: [GET, HEAD]",
                "AllowedMethods: [GET, HEAD, PUT]",
                "E10 can be written",
            ),
            ("HeaderBehavior: allViewer", "HeaderBehavior: none", "E10 Authorization and Host"),
            ("CookieBehavior: all", "CookieBehavior: none", "E10 cookies do not"),
            ("QueryStringBehavior: all", "QueryStringBehavior: none", "E10 query strings do not"),
            ("AccessControlMaxAgeSec: 31536000", "AccessControlMaxAgeSec: 60", "E10 insist on TLS"),
            (", FrameOptions: {}", "", "E10 inside of others"),
            (
                "CachePolicyId: x, ResponseHeadersPolicyId: !Ref Headers",
                "CachePolicyId: x",
                "E10 no security headers",
            ),
        ],
    );
}

#[test]
fn an_empty_environment_keeps_no_rule_of_the_edge_by_having_nothing() {
    let told = testing::world(&[("a", "Resources: {}")]).says(&rules());
    assert_eq!(
        told,
        [
            "E01 prod:1 there is no distribution",
            "E02 prod:1 there is no web firewall for CloudFront",
        ]
    );
}

#[test]
fn bot_control_is_wanted_where_it_is_switched_on_and_groups_may_count_outside_of_production() {
    let on = format!("Parameters: {{ BotControl: {{ Type: String, Default: 'true' }} }}\n{EDGE}");
    let told = testing::world(&[("global", &on)]).says(&rules());
    let [bots] = told.as_slice() else { panic!("one finding: {told:?}") };
    assert!(bots.starts_with("E02") && bots.contains("nothing is against bots"), "{bots}");
    let counts = EDGE.replace("OverrideAction: { None: {} }", "OverrideAction: { Count: {} }");
    assert_eq!(testing::world(&[("global", &counts)]).says(&rules()), [""; 0]);
}

#[test]
fn what_belongs_to_cloudfront_is_missed_in_another_region() {
    let home = "
Resources:
  Acl: { Type: AWS::WAFv2::IPSet, Properties: { Scope: CLOUDFRONT } }
  Source: { Type: AWS::Logs::DeliverySource, Properties: { Name: s, ResourceArn: 'arn:aws:cloudfront::111122223333:distribution/E1' } }
  Alarm: { Type: AWS::CloudWatch::Alarm, Properties: { Namespace: AWS/CloudFront } }
";
    let told = testing::world(&[("home", home), ("global", EDGE)]).says(&rules());
    let places: Vec<_> = told.iter().map(|t| t.split(' ').take(2).collect::<Vec<_>>()).collect();
    assert_eq!(
        places,
        [["E07", "home.Acl:3"], ["E07", "home.Source:4"], ["E07", "home.Alarm:5"]],
        "{told:?}"
    );
}

#[test]
fn an_origin_is_not_updated_by_tags_of_its_stack() {
    let told = testing::world(&[("home", EDGE)]).says(&rules());
    assert!(told.iter().any(|t| t.starts_with("E09 home.A:2 its stack has")), "{told:?}");
}

#[test]
fn a_load_balancer_on_the_internet_is_behind_the_header_and_tls_too() {
    let public = EDGE
        .replace(
            "VpcOriginConfig: { VpcOriginId: !If [IsA, !Ref A, !Ref B] }",
            "CustomOriginConfig: { HTTPSPort: 443, OriginProtocolPolicy: https-only, OriginSSLProtocols: [TLSv1.2] }",
        )
        .replace("CloudFront::VpcOrigin\n    Condition: IsA", "CloudFront::KeyGroup\n    Condition: IsA")
        .replace("CloudFront::VpcOrigin\n    Condition: IsB", "CloudFront::KeyGroup\n    Condition: IsB");
    testing::each_change_is_found(
        &rules(),
        "global",
        &public,
        &[
            ("{ Type: fixed-response }", "{ Type: forward }", "E05 what comes without X-Secret"),
            (
                "443, OriginProtocolPolicy: https-only, OriginSSLProtocols: [TLSv1.2] }\n            Origin",
                "443, OriginProtocolPolicy: http-only, OriginSSLProtocols: [TLSv1.2] }\n            Origin",
                "E04 plain HTTP",
            ),
        ],
    );
    let internal = testing::world(&[("global", &public)]).with("AlbExposure", "internal");
    let told = internal.says(&rules());
    assert!(
        told.iter().any(|t| t.contains("though the load balancer is to be internal")),
        "{told:?}"
    );
}
