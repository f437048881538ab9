package io.github.falrpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.JsonNode;
import com.google.protobuf.ByteString;
import io.github.falrpc.v1.BinaryOutput;
import io.github.falrpc.v1.Output;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ValuesTest {
  record Picture(String url, BigInteger seed, List<Integer> sizes) {}

  private static Output output(String json) {
    return Output.newBuilder().setJson(json).build();
  }

  /** Numbers of any size come into untyped values and go out again with all their digits. */
  @ParameterizedTest
  @ValueSource(
      strings = {
        "15860307465884635512", "-9223372036854775809", "123456789012345678901234567890", "9007199254740993", "1.10",
        "0.1234567890123456789012345", "1E+400", "12345678901234567890.5", "0", "[1,2.50]", "{\"a\":{\"b\":null}}"
      })
  void keepsDigits(String json) {
    assertEquals(json, Falrpc.input(Falrpc.decode(output(json), Object.class)).getJson());
    assertEquals(json, Falrpc.input(Falrpc.decode(output(json), JsonNode.class)).getJson());
  }

  /** Untyped integers are of the smallest type that holds them, other numbers BigDecimal. */
  @Test
  void choosesTypes() {
    Object decoded = Falrpc.decode(output("[1,9007199254740993,15860307465884635512,1.10,1e3]"), Object.class);
    BigInteger seed = new BigInteger("15860307465884635512");
    assertEquals(List.of(1, 9007199254740993L, seed, new BigDecimal("1.10"), new BigDecimal("1e3")), decoded);
  }

  /** Records come from outputs, whatever else these have, and go into inputs. */
  @Test
  void readsRecords() {
    String json = "{\"url\":\"https://x\",\"seed\":18446744073709551615,\"sizes\":[1,2]";
    Picture picture = Falrpc.decode(output(json + ",\"new\":{}}"), Picture.class);
    assertEquals(new Picture("https://x", new BigInteger("18446744073709551615"), List.of(1, 2)), picture);
    assertEquals(json + "}", Falrpc.input(picture).getJson());
  }

  /** Generic types are named by a TypeReference. */
  @Test
  void readsGenericTypes() {
    var type = new TypeReference<Map<String, List<Picture>>>() {};
    var decoded = Falrpc.decode(output("{\"a\":[{\"url\":\"u\"}]}"), type);
    assertEquals(Map.of("a", List.of(new Picture("u", null, null))), decoded);
  }

  /** Text is not escaped for HTML, nor for ASCII. */
  @Test
  void leavesTextAlone() {
    assertEquals("{\"prompt\":\"<a> & ü 猫 😀\"}", Falrpc.input(Map.of("prompt", "<a> & ü 猫 😀")).getJson());
  }

  /** null is JSON, too, and keeps its place in a map. */
  @Test
  void writesNull() {
    var map = new LinkedHashMap<String, Object>();
    map.put("seed", null);
    assertEquals("{\"seed\":null}", Falrpc.input(map).getJson());
  }

  /** Text may be as long as a message. */
  @Test
  void readsLongText() {
    String text = "x".repeat(60_000_000);
    assertEquals(text, Falrpc.decode(output("\"" + text + "\""), String.class));
  }

  /** NaN does not turn into text that a model may take for a value. */
  @Test
  void keepsNanAsItIs() {
    assertEquals("[NaN]", Falrpc.input(List.of(Double.NaN)).getJson());
  }

  /** A value without a JSON form is refused. */
  @Test
  void refusesValues() {
    assertThrows(IllegalArgumentException.class, () -> Falrpc.input(new Object()));
    assertThrows(IllegalArgumentException.class, () -> Falrpc.input(Map.of("stream", System.in)));
  }

  /** A binary output is refused by its content type. */
  @Test
  void refusesBinary() {
    BinaryOutput wav = BinaryOutput.newBuilder().setContentType("audio/wav").setData(ByteString.EMPTY).build();
    Output output = Output.newBuilder().setBinary(wav).build();
    var refused = assertThrows(UncheckedIOException.class, () -> Falrpc.decode(output, Object.class));
    assertTrue(refused.getMessage().contains("audio/wav"), refused.getMessage());
  }

  /** So is what is no JSON, no single value, nothing, or of another type; the message says that it is the output. */
  @ParameterizedTest
  @ValueSource(strings = {"", "{", "{} {}", "NaN", "[1]", "{\"seed\":\"many\"}"})
  void refusesOthers(String json) {
    var refused = assertThrows(UncheckedIOException.class, () -> Falrpc.decode(output(json), Picture.class));
    assertTrue(refused.getMessage().startsWith("output: "), refused.getMessage());
    assertInstanceOf(java.io.IOException.class, refused.getCause());
  }

  /** An output without a value is refused. */
  @Test
  void refusesNothing() {
    var output = Output.getDefaultInstance();
    assertThrows(UncheckedIOException.class, () -> Falrpc.decode(output, Object.class));
  }
}
