package permission

// A Role is a named set of permissions that every organisation has.
type Role struct {
	Name        string
	Description string
	Set         Set
}

// The roles that are given without being asked for.
const (
	Owner       = "owner"            // whoever creates an organisation
	Manager     = "manager"          // API keys from before there were roles
	Application = "PD_STANDARD_APP"  // a new API key
	Reader      = "PD_READER_USER"   // an invited person
	Support     = "support"          // the installation's operator, by the organisation's leave
	SupportData = "support-messages" // the same, with what devices say
)

const (
	see = Set(1<<OrgRead | 1<<TypeRead | 1<<DeviceRead | 1<<GroupRead | 1<<LimitRead)
	// inspect is to see everything but the record of who did what, and messages.
	inspect = see | 1<<ApplicationRead | 1<<UserRead | 1<<RuleRead | 1<<IssuerRead | 1<<MemberRead | 1<<RoleRead |
		1<<LockRead | 1<<NetworkRead | 1<<AlertRead | 1<<Explain | 1<<CredentialRead
	messages = Set(1<<EventPublish | 1<<EventReceive | 1<<CommandPublish | 1<<CommandReceive | 1<<MonitorReceive)
	receive  = Set(1<<EventReceive | 1<<CommandReceive | 1<<MonitorReceive)
	devices  = Set(1<<DeviceRead | 1<<DeviceWrite | 1<<DeviceCredential)
	users    = Set(1<<UserRead | 1<<UserWrite | 1<<RuleRead | 1<<RuleWrite)
	standard = see | devices | users | messages | 1<<TypeWrite
)

// roles are the built-in roles. The names that begin with PD_ are those of the
// Watson IoT Platform.
var roles = []Role{
	{Owner, "Everything in the organisation", All},
	{Manager, "Everything but to change the organisation itself and to let its operator in", All.Without(OrgWrite, SupportWrite)},
	{"member", "Works with devices, users and messages", inspect | standard | 1<<AlertWrite},
	{"auditor", "Sees everything, the audit record too, but no messages; changes nothing", inspect | 1<<AuditRead},

	{"PD_ADMIN_USER", "Watson administrator: everything in the organisation", All},
	{"PD_OPERATOR_USER", "Watson operator: devices, their groups and messages", see | devices | messages | 1<<GroupWrite | 1<<LockRead |
		1<<LockWrite | 1<<AlertRead | 1<<AlertWrite | 1<<Explain},
	{"PD_DEVELOPER_USER", "Watson developer: devices, types, API keys and messages", standard | 1<<ApplicationRead | 1<<ApplicationWrite |
		1<<RoleRead | 1<<Explain},
	{"PD_ANALYST_USER", "Watson analyst: sees devices and receives messages", see | receive},
	{Reader, "Watson reader: sees devices and types", see},

	{Application, "Standard application: devices, types, users and messages", standard},
	{"PD_OPERATOR_APP", "Operations application: devices, groups and commands", see | devices | messages&^(1<<EventPublish) | 1<<GroupWrite},
	{"PD_BACKEND_APP", "Backend trusted application: the same as a standard one, and API keys, members and groups",
		standard | 1<<ApplicationRead | 1<<ApplicationWrite | 1<<MemberRead | 1<<RoleRead | 1<<GroupWrite | 1<<LimitWrite},
	{"PD_DATA_PROCESSOR_APP", "Data processor application: events in and out", see | 1<<EventPublish | 1<<EventReceive},
	{"PD_VISUALIZATION_APP", "Visualization application: sees devices and their events", see | 1<<EventReceive | 1<<MonitorReceive},
	{"PD_DEVICE_APP", "Device application: publishes events and receives commands", Set(1<<EventPublish | 1<<CommandReceive)},

	{Support, "The installation's operator: sees everything but messages; changes nothing", inspect | 1<<AuditRead},
	{SupportData, "The installation's operator: sees everything, messages too; changes nothing", inspect | 1<<AuditRead | receive},
}

// Roles returns the built-in roles.
func Roles() []Role { return append([]Role(nil), roles...) }

// Builtin returns the built-in role of that name.
func Builtin(name string) (Role, bool) {
	for _, r := range roles {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}
