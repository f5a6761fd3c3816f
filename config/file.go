package config

import "valise/mapping"

// file is the shape of the TOML file; every name a user can write stands here. A
// leaf is an opt, which keeps a value of the wrong type for the checks to report,
// because the decoder would stop at the first.
type file struct {
	StateDir  opt[string]   `toml:"state_dir"`
	LogLevel  opt[string]   `toml:"log_level"`
	LogFormat opt[string]   `toml:"log_format"`
	Host      opt[string]   `toml:"host"`
	Normalize opt[[]string] `toml:"normalize"`

	Plugin     pluginTable               `toml:"plugin"`
	Proxy      proxyTable                `toml:"proxy"`
	S3         s3Table                   `toml:"s3"`
	Providers  map[string]providerTable  `toml:"storage_providers"`
	Roots      map[string]rootTable      `toml:"roots"`
	Workspaces map[string]workspaceTable `toml:"workspaces"`
	Groups     map[string]groupTable     `toml:"groups"`
	Users      map[string]opt[string]    `toml:"users"`
}

type pluginTable struct {
	Socket        opt[string] `toml:"socket"`
	Admin         opt[string] `toml:"admin"`
	UsageInterval opt[string] `toml:"usage_interval"`
}

type proxyTable struct {
	Upstream    opt[string]   `toml:"upstream"`
	UpstreamTLS tlsTable      `toml:"upstream_tls"`
	Driver      opt[string]   `toml:"driver"`
	Unmatched   opt[string]   `toml:"unmatched"`
	OnConflict  opt[string]   `toml:"on_conflict"`
	Listen      []listenTable `toml:"listen"`
	Notices     noticesTable  `toml:"notices"`
}

type noticesTable struct {
	Enabled  opt[bool]     `toml:"enabled"`
	Command  opt[[]string] `toml:"command"`
	Interval opt[string]   `toml:"interval"`
	Repeat   opt[string]   `toml:"repeat"`
	Webhook  opt[string]   `toml:"webhook"`
}

type listenTable struct {
	Address  opt[string]   `toml:"address"`
	Policy   opt[string]   `toml:"policy"`
	Identity opt[[]string] `toml:"identity"`
	User     opt[string]   `toml:"user"`
	Groups   opt[[]string] `toml:"groups"`
	Mode     opt[string]   `toml:"mode"`
	Group    opt[string]   `toml:"group"`
	TLS      tlsTable      `toml:"tls"`
}

type tlsTable struct {
	CA   opt[string] `toml:"ca"`
	Cert opt[string] `toml:"cert"`
	Key  opt[string] `toml:"key"`
}

type s3Table struct {
	AccessKeyID                opt[string] `toml:"access_key_id"`
	SecretAccessKeyFile        opt[string] `toml:"secret_access_key_file"`
	Region                     opt[string] `toml:"region"`
	CAFile                     opt[string] `toml:"ca_file"`
	RequestChecksumCalculation opt[string] `toml:"request_checksum_calculation"`
	ResponseChecksumValidation opt[string] `toml:"response_checksum_validation"`
	SyncInterval               opt[string] `toml:"sync_interval"`
	Patience                   opt[string] `toml:"patience"`
	Lease                      opt[string] `toml:"lease"`
	CacheSize                  opt[string] `toml:"cache_size"`
	Prefetch                   opt[string] `toml:"prefetch"`
	SingleHost                 opt[bool]   `toml:"single_host"`
	Upkeep                     upkeepTable `toml:"upkeep"`
}

type upkeepTable struct {
	Enabled       opt[bool]   `toml:"enabled"`
	Interval      opt[string] `toml:"interval"`
	CheckInterval opt[string] `toml:"check_interval"`
	CheckData     opt[bool]   `toml:"check_data"`
	Grace         opt[string] `toml:"grace"`
	KeepLast      opt[int64]  `toml:"keep_last"`
	KeepDaily     opt[int64]  `toml:"keep_daily"`
	KeepWeekly    opt[int64]  `toml:"keep_weekly"`
	KeepMonthly   opt[int64]  `toml:"keep_monthly"`
}

type providerTable struct {
	BackendStorage opt[string] `toml:"backend_storage"`
	LogLevel       opt[string] `toml:"log_level"`
	Filter         opt[string] `toml:"filter"`
	StorageLimit   opt[string] `toml:"storage_limit"`
	LimitAction    opt[string] `toml:"limit_action"`
	STS            opt[bool]   `toml:"sts"`
	STSRoleARN     opt[string] `toml:"sts_role_arn"`
	STSEndpoint    opt[string] `toml:"sts_endpoint"`
	STSDuration    opt[string] `toml:"sts_duration"`
	Encryption     opt[string] `toml:"encryption"`
	MasterKeyFile  opt[string] `toml:"master_key_file"`
}

type rootTable struct {
	RequireMount opt[bool]   `toml:"require_mount"`
	Marker       opt[string] `toml:"marker"`
}

type workspaceTable struct {
	Images         opt[[]string]           `toml:"images"`
	ImageID        opt[string]             `toml:"image_id"`
	Home           opt[string]             `toml:"home"`
	UID            opt[int64]              `toml:"uid"`
	GID            opt[int64]              `toml:"gid"`
	Mode           opt[string]             `toml:"mode"`
	Skeleton       opt[string]             `toml:"skeleton"`
	SizeLimit      opt[string]             `toml:"size_limit"`
	OnSecondHost   opt[string]             `toml:"on_second_host"`
	Profile        opt[string]             `toml:"profile"`
	MigrateFrom    opt[string]             `toml:"migrate_from"`
	StorageMapping storageTable            `toml:"storage_mapping"`
	Mappings       map[string]mappingTable `toml:"volume_mappings"`
	MappingsFile   opt[string]             `toml:"volume_mappings_file"`
}

type storageTable struct {
	Provider            opt[string] `toml:"provider"`
	Bucket              opt[string] `toml:"bucket"`
	Prefix              opt[string] `toml:"prefix"`
	AccessKeyID         opt[string] `toml:"access_key_id"`
	SecretAccessKeyFile opt[string] `toml:"secret_access_key_file"`
}

type groupTable struct {
	Priority     opt[int64]              `toml:"priority"`
	Members      opt[[]string]           `toml:"members"`
	Allow        opt[bool]               `toml:"allow_persistent_profile"`
	Mappings     map[string]mappingTable `toml:"volume_mappings"`
	MappingsFile opt[string]             `toml:"volume_mappings_file"`
}

type mappingTable struct {
	Bind      opt[string] `toml:"bind"`
	Mode      opt[string] `toml:"mode"`
	UID       opt[int64]  `toml:"uid"`
	GID       opt[int64]  `toml:"gid"`
	Required  opt[bool]   `toml:"required"`
	Timeout   opt[int64]  `toml:"timeout"`
	SkipCheck opt[bool]   `toml:"skip_check"`
}

// settings are the table's in the form that mapping files share.
func (t mappingTable) settings() mapping.Settings {
	return mapping.Settings{
		Bind: t.Bind.value, Mode: t.Mode.value, UID: t.UID.pointer(), GID: t.GID.pointer(),
		Required: t.Required.pointerTo(), Timeout: t.Timeout.pointer(), SkipCheck: t.SkipCheck.value,
	}
}
