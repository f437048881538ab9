package io.github.falrpc;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class PackageTest {
  /** The license goes into the jars, with the classes. */
  @Test
  void holdsTheLicense() throws Exception {
    Path classes = Path.of(Falrpc.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    assertEquals(Files.readString(Path.of("../../LICENSE")), Files.readString(classes.resolve("META-INF/LICENSE")));
  }
}
