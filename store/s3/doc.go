// Package s3 reaches a profile's prefix of a bucket on AWS or on any store that
// speaks S3: the store.Bucket that valise mounts from.
//
// Invariants:
//
//   - Only GetObject, PutObject, DeleteObject, ListObjectsV2 and, to find the region
//     of an AWS bucket, GetBucketLocation are sent, so these are all the rights that
//     credentials need. There is no multipart upload.
//   - Every request is signed with Signature Version 4; no secret is in a log or an
//     error.
//   - What a call returns was announced by the store in full and arrived in full: an
//     answer cut short is asked for again, one that is not the range asked for is
//     refused.
//   - A call ends: each attempt ends when nothing moved for a while, and the attempts
//     are counted. The client does not limit its own rate.
//
// A Bucket is safe for concurrent use. It does not cache, compress or encrypt, and it
// does not notice a store that ignores If-None-Match.
package s3
