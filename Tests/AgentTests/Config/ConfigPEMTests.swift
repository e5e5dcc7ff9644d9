import Testing

@testable import Agent

/// PEM text that lost its line ends on the way.
struct ConfigPEMTests {
  private static let content = String(repeating: "MIIBszCCAVmgAwIBAgIU", count: 5)
  private static let block = """
    -----BEGIN CERTIFICATE-----
    \(content.prefix(64))
    \(content.dropFirst(64))
    -----END CERTIFICATE-----

    """
  private static let two = block + block.replacing("CERTIFICATE", with: "PRIVATE KEY")

  @Test(arguments: [
    two.replacing("\n", with: "\\n"), two.replacing("\n", with: "\\r\\n"), two.replacing("\n", with: " "),
    two.replacing("\n", with: ""), two.replacing("\n", with: "\n    "), "\"" + two + "\"",
    "'" + two.replacing("\n", with: "\\n") + "'", "\t" + two,
  ])
  func `what is lost is put back`(text: String) { #expect(PEMText.normalised(text) == Self.two) }

  @Test(arguments: [
    two, "# the authority\n" + two, two.replacing("\n", with: "\r\n"), "", "no PEM \\n at all",
    "-----BEGIN CERTIFICATE-----", " -----BEGIN CERTIFICATE----- MIIB", "-----BEGIN A-----\nMIIB\n-----END B-----\n",
  ])
  func `what is whole, or cannot be told, stays as it is`(text: String) { #expect(PEMText.normalised(text) == text) }

  @Test func `headers of a block keep their lines`() {
    let key = """
      -----BEGIN RSA PRIVATE KEY-----
      Proc-Type: 4,ENCRYPTED
      DEK-Info: AES-128-CBC,00

      MIIB
      -----END RSA PRIVATE KEY-----

      """
    #expect(PEMText.normalised(key.replacing("\n", with: "\n  ")) == key)
    #expect(PEMText.normalised(key.replacing("\n", with: "\\n")) == key)
  }
}
