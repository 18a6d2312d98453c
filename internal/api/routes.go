package api

import (
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// routes is every route of the API. Operations of get, create, update, act, end
// and remove need a caller; those of open do not.
func (s *server) routes(mux *http.ServeMux, a huma.API) {
	get(s, a, "/me", "get-me", "Who the caller is", s.me)
	update(s, a, "/me", "update-me", "Change the caller's name or e-mail address", s.updateMe)
	end(s, a, "/me/password", "set-password", "Give the caller a password; other sessions end", s.setPassword)
	get(s, a, "/me/second-factors", "list-second-factors", "List the caller's second factors", s.listFactors)
	create(s, a, "/me/second-factors", "create-second-factor", "Add an authenticator, to be confirmed", s.createFactor)
	act(s, a, "/me/second-factors/{id}/confirm", "confirm-second-factor", "Have an authenticator count, with a code of it", s.confirmFactor)
	remove(s, a, "/me/second-factors/{id}", "delete-second-factor", "Delete an authenticator", s.deleteFactor)
	act(s, a, "/me/recovery-codes", "renew-recovery-codes", "Replace the caller's recovery codes", s.renewRecovery)
	end(s, a, "/me/verify", "verify-session", "Prove a second factor in this session", s.verifyMe)
	remove(s, a, "/me/sessions", "delete-other-sessions", "Sign the caller out everywhere else", s.deleteOtherSessions)
	open(s, a, "/sign-in/password", "log-in", "Sign in with a password and, if there is one, a second factor", s.logIn)
	get(s, a, "/me/sessions", "list-sessions", "List where the caller is signed in", s.listSessions)
	remove(s, a, "/me/sessions/{id}", "delete-session", "Sign the caller out somewhere", s.deleteSession)
	create(s, a, "/me/sign-in-codes", "create-sign-in-code", "Make a one-time sign-in code for the caller", s.createSignInCode)
	open(s, a, "/sign-in", "sign-in", "Exchange a one-time code for an access token", s.signIn)
	end(s, a, "/sign-out", "sign-out", "End the caller's access token", s.signOut)

	get(s, a, "/orgs", "list-orgs", "List organisations", s.listOrgs)
	create(s, a, "/orgs", "create-org", "Create an organisation", s.createOrg)
	get(s, a, "/orgs/{org}", "get-org", "Show an organisation", s.getOrg)
	update(s, a, "/orgs/{org}", "update-org", "Rename, disable or enable an organisation, or change what a home chooses", s.updateOrg)
	remove(s, a, "/orgs/{org}", "delete-org", "Delete an organisation and shred its data", s.deleteOrg)

	get(s, a, "/orgs/{org}/limits", "list-limits", "Show the limits of an organisation, and what it uses", s.listLimits)
	update(s, a, "/orgs/{org}/limits", "update-limits", "Set or unset limits of an organisation", s.updateLimits)
	get(s, a, "/orgs/{org}/limit-events", "list-limit-events", "List who reached which limit, latest first", s.listLimitEvents)

	get(s, a, "/orgs/{org}/types", "list-types", "List device types", s.listTypes)
	create(s, a, "/orgs/{org}/types", "create-type", "Create a device type", s.createType)
	get(s, a, "/orgs/{org}/types/{type}", "get-type", "Show a device type", s.getType)
	remove(s, a, "/orgs/{org}/types/{type}", "delete-type", "Delete a device type that has no devices", s.deleteType)
	get(s, a, "/orgs/{org}/types/{type}/limits", "list-type-limits", "Show the limits of a device type", s.listTypeLimits)
	update(s, a, "/orgs/{org}/types/{type}/limits", "update-type-limits", "Set or unset limits of a device type, below those of its organisation", s.updateTypeLimits)

	get(s, a, "/orgs/{org}/devices", "list-devices", "List devices", s.listDevices)
	create(s, a, "/orgs/{org}/devices", "create-device", "Create a device; its token is shown once", s.createDevice)
	get(s, a, "/orgs/{org}/devices/{type}/{id}", "get-device", "Show a device", s.getDevice)
	update(s, a, "/orgs/{org}/devices/{type}/{id}", "update-device", "Disable, enable or attach a device, or let a gateway register devices", s.updateDevice)
	remove(s, a, "/orgs/{org}/devices/{type}/{id}", "delete-device", "Delete a device", s.deleteDevice)
	act(s, a, "/orgs/{org}/devices/{type}/{id}/token", "rotate-device-token", "Replace a device's token", s.rotateDeviceToken)
	create(s, a, "/orgs/{org}/devices/{type}/{id}/enrolments", "create-enrolment", "Make a one-time token with which a device gets its certificate", s.createEnrolment)
	get(s, a, "/orgs/{org}/devices/{type}/{id}/certificates", "list-certificates", "List a device's certificates", s.listCertificates)
	remove(s, a, "/orgs/{org}/devices/{type}/{id}/certificates/{serial}", "revoke-certificate", "Revoke one of a device's certificates", s.revokeCertificate)

	get(s, a, "/orgs/{org}/apps", "list-apps", "List API keys", s.listApps)
	create(s, a, "/orgs/{org}/apps", "create-app", "Create an API key; its token is shown once", s.createApp)
	get(s, a, "/orgs/{org}/apps/{key}", "get-app", "Show an API key", s.getApp)
	update(s, a, "/orgs/{org}/apps/{key}", "update-app", "Disable or enable an API key, or give it other rights", s.updateApp)
	remove(s, a, "/orgs/{org}/apps/{key}", "delete-app", "Delete an API key", s.deleteApp)
	act(s, a, "/orgs/{org}/apps/{key}/token", "rotate-app-token", "Replace an API key's token", s.rotateAppToken)

	s.accessRoutes(a)
	s.credentialRoutes(a)
	s.teamRoutes(a)
	s.serviceRoutes(a)
	s.alertRoutes(a)

	open(s, a, "/enrol", "enrol", "Exchange an enrolment token and a certificate request for a certificate", s.enrol)
	open(s, a, "/renew", "renew", "Renew the certificate that the connection presents", s.renew)

	get(s, a, "/audit", "list-audit", "Search audit events, newest first; a page can be short and still have a next", s.listAudit)
	get(s, a, "/audit/checkpoint", "get-audit-checkpoint", "The signed state of the audit record", s.checkpoint)
	get(s, a, "/audit/retention", "get-audit-retention", "For how long audit records are kept", s.auditRetention)
	update(s, a, "/audit/retention", "update-audit-retention", "Set for how long audit records are kept", s.updateAuditRetention)
	get(s, a, "/audit/export", "export-audit", "The audit record, of one organisation or everybody, with what proves it, for verification elsewhere", s.exportAudit)

	s.estRoutes(mux)
	mux.HandleFunc("GET "+base+"/ca.pem", s.caPEM)
	mux.HandleFunc("GET "+base+"/openapi.json", s.document)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)

	s.openapi, _ = json.Marshal(a.OpenAPI()) // made of our own types: it cannot fail
}

// accessRoutes are the routes of who may do what in an organisation.
func (s *server) accessRoutes(a huma.API) {
	get(s, a, "/orgs/{org}/roles", "list-roles", "List the roles that can be given", s.listRoles)
	replace(s, a, "/orgs/{org}/roles/{role}", "put-role", "Make or change a role of the organisation's own", s.putRole)
	remove(s, a, "/orgs/{org}/roles/{role}", "delete-role", "Delete a role that nobody has", s.deleteRole)

	get(s, a, "/orgs/{org}/members", "list-members", "List the people of an organisation", s.listMembers)
	get(s, a, "/orgs/{org}/members/{person}", "get-member", "Show a member", s.getMember)
	update(s, a, "/orgs/{org}/members/{person}", "update-member", "Change what a member may do", s.updateMember)
	remove(s, a, "/orgs/{org}/members/{person}", "remove-member", "Remove a member, or leave", s.removeMember)
	get(s, a, "/orgs/{org}/invitations", "list-invitations", "List the open invitations", s.listInvitations)
	create(s, a, "/orgs/{org}/invitations", "create-invitation", "Invite a person; the code is shown once", s.createInvitation)
	remove(s, a, "/orgs/{org}/invitations/{id}", "delete-invitation", "Withdraw an invitation", s.deleteInvitation)
	act(s, a, "/me/memberships", "accept-invitation", "Accept an invitation as the caller", s.acceptInvitation)
	get(s, a, "/me/memberships", "list-memberships", "List the organisations of which the caller is a member", s.listMemberships)
	open(s, a, "/join", "join", "Accept an invitation as a new person, and get an access token", s.joinOrg)
	update(s, a, "/people/{person}", "update-person", "Shut a person out of the installation, or let them in again", s.updatePerson)

	get(s, a, "/orgs/{org}/support", "list-support", "List where the installation's operator asked to look in, or may", s.listSupport)
	create(s, a, "/orgs/{org}/support", "ask-support", "Ask an organisation to let the caller, its operator, look in", s.askSupport)
	act(s, a, "/orgs/{org}/support/{id}/grant", "grant-support", "Let the operator look in for the time asked for", s.grantSupport)
	remove(s, a, "/orgs/{org}/support/{id}", "end-support", "Have the operator look in no more, or refuse it", s.endSupport)

	get(s, a, "/orgs/{org}/groups", "list-groups", "List resource groups", s.listGroups)
	create(s, a, "/orgs/{org}/groups", "create-group", "Create a resource group", s.createGroup)
	get(s, a, "/orgs/{org}/groups/{group}", "get-group", "Show a resource group", s.getGroup)
	remove(s, a, "/orgs/{org}/groups/{group}", "delete-group", "Delete a resource group; its devices stay", s.deleteGroup)
	get(s, a, "/orgs/{org}/groups/{group}/devices", "list-group-devices", "List the devices in a resource group", s.listGroupDevices)
	update(s, a, "/orgs/{org}/groups/{group}/devices", "update-group-devices", "Put devices into a resource group, and take others out", s.updateGroupDevices)

	get(s, a, "/orgs/{org}/locks", "list-locks", "List who and what is locked out of an organisation", s.listLocks)
	create(s, a, "/orgs/{org}/locks", "create-lock", "Lock somebody or something out, and end what they have open", s.createLock)
	remove(s, a, "/orgs/{org}/locks/{id}", "delete-lock", "Let in again what was locked out", s.deleteLock)
	get(s, a, "/locks", "list-all-locks", "List who and what is locked out of the installation", s.listAllLocks)
	create(s, a, "/locks", "create-lock-of-all", "Lock a person, an address, an authority or a client identifier out of the installation", s.createLockOfAll)
	remove(s, a, "/locks/{id}", "delete-lock-of-all", "Let in to the installation again what was locked out", s.deleteLockOfAll)

	get(s, a, "/orgs/{org}/sign-in-providers", "list-sign-in-providers", "List the OpenID Connect providers through which people sign in to the organisation", s.listSignInProviders)
	replace(s, a, "/orgs/{org}/sign-in-providers/{name}", "put-sign-in-provider", "Make or change a provider; if it would let others in, or with other rights, who came through it signs in again", s.putSignInProvider)
	remove(s, a, "/orgs/{org}/sign-in-providers/{name}", "delete-sign-in-provider", "Delete a provider; sessions and memberships that came from it end", s.deleteSignInProvider)
	get(s, a, "/orgs/{org}/server-certificates", "list-org-server-certificates", "List what the server shows to clients that ask for a name of the organisation", s.listOrgServerCertificates)
	create(s, a, "/orgs/{org}/server-certificates", "create-org-server-certificate", "Upload a server certificate, or make a request for one to be signed", s.createOrgServerCertificate)
	replace(s, a, "/orgs/{org}/server-certificates/{id}", "complete-org-server-certificate", "Take the certificate made of a request into use", s.completeOrgServerCertificate)
	remove(s, a, "/orgs/{org}/server-certificates/{id}", "delete-org-server-certificate", "Show a certificate no more, and forget its key", s.deleteOrgServerCertificate)
	end(s, a, "/orgs/{org}/server-names/{name}", "give-server-name", "Give an organisation a host name; only an administrator knows whose it is", s.giveServerName)
	remove(s, a, "/orgs/{org}/server-names/{name}", "take-server-name", "Take a host name from an organisation", s.takeServerName)
	get(s, a, "/server/certificates", "list-server-certificates", "The certificates that the server shows, and those that should be there", s.listServerCertificates)

	get(s, a, "/orgs/{org}/network", "get-network", "From where clients may connect", s.getNetwork)
	replace(s, a, "/orgs/{org}/network", "put-network", "Replace from where clients may connect; who comes from elsewhere is disconnected", s.putNetwork)
	get(s, a, "/orgs/{org}/policies", "get-policies", "What devices must present to connect", s.getPolicies)
	update(s, a, "/orgs/{org}/policies", "update-policies", "Change what devices must present; who has not is disconnected", s.updatePolicies)
	act(s, a, "/orgs/{org}/compliance", "preview-compliance", "How devices comply with the policies, or would with others", s.compliance)
	get(s, a, "/orgs/{org}/compliance/devices", "list-non-compliant", "List the devices that lack what their policy asks for", s.listNonCompliant)

	get(s, a, "/orgs/{org}/explain", "explain", "Whether somebody may do something with a topic, and by which rule", s.explain)
	get(s, a, "/orgs/{org}/readers", "list-readers", "List who may receive a topic", s.listReaders)
	get(s, a, "/orgs/{org}/refusals", "list-refusals", "List what was refused, latest first", s.listRefusals)
	get(s, a, "/orgs/{org}/refusals/{id}", "get-refusal", "Why something was refused, from the number in the refusal", s.getRefusal)

	get(s, a, "/orgs/{org}/rules", "get-rules", "Show the rules for every plain MQTT user", s.getRules)
	update(s, a, "/orgs/{org}/rules", "update-rules", "Replace the rules for every plain MQTT user", s.updateRules)

	get(s, a, "/orgs/{org}/users", "list-users", "List MQTT users", s.listUsers)
	create(s, a, "/orgs/{org}/users", "create-user", "Create an MQTT user; its password is shown once", s.createUser)
	get(s, a, "/orgs/{org}/users/{name}", "get-user", "Show an MQTT user", s.getUser)
	update(s, a, "/orgs/{org}/users/{name}", "update-user", "Change the rules, client identifiers or role of an MQTT user, disable or enable it", s.updateUser)
	remove(s, a, "/orgs/{org}/users/{name}", "delete-user", "Delete an MQTT user", s.deleteUser)
	act(s, a, "/orgs/{org}/users/{name}/password", "rotate-user-password", "Replace an MQTT user's password", s.rotateUserPassword)

	get(s, a, "/orgs/{org}/issuers", "list-issuers", "List the identity providers whose tokens are accepted", s.listIssuers)
	create(s, a, "/orgs/{org}/issuers", "create-issuer", "Accept the tokens of an identity provider", s.createIssuer)
	get(s, a, "/orgs/{org}/issuers/{name}", "get-issuer", "Show an identity provider", s.getIssuer)
	update(s, a, "/orgs/{org}/issuers/{name}", "update-issuer", "Change an identity provider; who was let in by it authenticates again", s.updateIssuer)
	remove(s, a, "/orgs/{org}/issuers/{name}", "delete-issuer", "Accept the tokens of an identity provider no more", s.deleteIssuer)
}
