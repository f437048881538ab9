package io.github.falrpc;

import com.fasterxml.jackson.core.*;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.*;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.google.gson.Gson;
import com.google.protobuf.UnsafeByteOperations;
import io.github.falrpc.v1.*;
import io.grpc.*;
import io.grpc.stub.*;
import java.io.*;
import java.math.BigInteger;
import java.util.Map;
import java.util.concurrent.*;

/** Connects Java programs to falrpc, and turns values into inputs and outputs into values. */
public final class Falrpc {
  private static final int MESSAGE_BYTES_MAX = 64 << 20;
  private static final JsonMapper JSON = JsonMapper.builder(
          JsonFactory.builder().streamReadConstraints( // Jackson's own limit is less than a message may have
              StreamReadConstraints.builder().maxStringLength(MESSAGE_BYTES_MAX).build()).build())
      .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS, DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
      .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
      .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES)
      .disable(JsonWriteFeature.WRITE_NAN_AS_STRINGS) // falrpc refuses NaN, and says so
      .build();

  private Falrpc() {}

  /**
   * Makes the builder of a channel: plaintext to this machine (localhost, 127.0.0.0/8, ::1), TLS to any other.
   *
   * @param target {@code host:port}, or {@code dns:///name:port} for a headless service
   */
  public static ManagedChannelBuilder<?> channel(String target) {
    return channel(target, isLoopback(target) ? InsecureChannelCredentials.create() : TlsChannelCredentials.create());
  }

  static boolean isLoopback(String target) {
    return target.matches("(?i)(dns:///)?(localhost|127(\\.(25[0-5]|2[0-4]\\d|1?\\d?\\d)){3}|\\[::1])(:\\d+)?");
  }

  /**
   * Makes the builder of a channel with other credentials: TLS with an authority of one's own, say, or
   * {@link InsecureChannelCredentials} in a mesh whose sidecars add TLS.
   *
   * <p>Calls are spread over all addresses of the target. Status, StreamStatus, Result and Cancel are repeated on
   * UNAVAILABLE; what costs money never is. A message may have 64 MiB. Pings show that the connection is alive.
   */
  public static ManagedChannelBuilder<?> channel(String target, ChannelCredentials credentials) {
    String port = target.replaceFirst(".*:(?=\\d{5,}$)", "");
    if (!port.equals(target) && new BigInteger(port).bitLength() > 16) { // grpc would fail where nobody sees it
      throw new IllegalArgumentException("no port: " + target);
    }
    Reader serviceConfig = new InputStreamReader(Falrpc.class.getResourceAsStream("service_config.json"));
    ManagedChannelBuilder<?> builder = Grpc.newChannelBuilder(target, credentials)
        .defaultServiceConfig(new Gson().<Map<String, ?>>fromJson(serviceConfig, Map.class))
        .enableRetry()
        .keepAliveTime(30, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true)
        .maxInboundMessageSize(MESSAGE_BYTES_MAX);
    return target.startsWith("xds:") ? builder : builder.disableServiceConfigLookUp(); // DNS decides on no repeats
  }

  /** Sends a bearer token with every call of a stub, also over plaintext: {@code stub.withCallCredentials(…)}. */
  public static CallCredentials bearer(String token) {
    if (!token.matches("[!-~]+")) { // grpc would log it and go on without
      throw new IllegalArgumentException("a token is printable ASCII without spaces");
    }
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    return new CallCredentials() {
      @Override
      public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
        applier.apply(headers);
      }
    };
  }

  /** Turns a value into an input by its JSON form, all digits kept; throws IllegalArgumentException if it has none. */
  public static Input input(Object value) {
    try {
      return Input.newBuilder().setJson(JSON.writeValueAsString(value)).build();
    } catch (JsonProcessingException e) {
      throw new IllegalArgumentException("input: " + e.getOriginalMessage(), e);
    }
  }

  /**
   * Reads a JSON output into a value; what its type does not name is left out. Into {@code Object.class} an integer
   * comes as Integer, Long or BigInteger, whichever holds it, and any other number as BigDecimal.
   *
   * @throws UncheckedIOException the output is not JSON, or does not fit the type
   */
  public static <T> T decode(Output output, Class<T> type) {
    return decode(output, JSON.constructType(type));
  }

  /** Reads a JSON output into a value of a type such as {@code new TypeReference<List<Picture>>() {}}. */
  public static <T> T decode(Output output, TypeReference<T> type) {
    return decode(output, JSON.constructType(type));
  }

  private static <T> T decode(Output output, JavaType type) {
    if (!output.hasJson()) {
      String found = output.hasBinary() ? output.getBinary().getContentType() : "empty";
      throw new UncheckedIOException(new IOException("output: not JSON but " + found));
    }
    try {
      return JSON.readValue(output.getJson(), type);
    } catch (JsonProcessingException e) {
      throw new UncheckedIOException("output: " + e.getOriginalMessage(), e);
    }
  }

  /**
   * Stores what a stream has and returns where. When the stream fails, the call is cancelled and no file is made.
   *
   * @param stub any stub of FalService, with the deadline and the credentials for this call
   * @param header only the file name is required
   */
  public static UploadResponse upload(AbstractStub<?> stub, UploadHeader header, InputStream file) throws IOException {
    BlockingClientCall<UploadRequest, UploadResponse> call = ClientCalls.blockingClientStreamingCall(
        stub.getChannel(), FalServiceGrpc.getUploadMethod(), stub.getCallOptions());
    try {
      UploadRequest.Builder part = UploadRequest.newBuilder().setHeader(header);
      byte[] chunk;
      while (call.write(part.build()) && (chunk = file.readNBytes(256 << 10)).length > 0) {
        part.setChunk(UnsafeByteOperations.unsafeWrap(chunk));
      }
      call.halfClose();
      UploadResponse response = call.read();
      call.hasNext(); // waits for the status
      return response;
    } catch (StatusException e) {
      throw e.getStatus().asRuntimeException(e.getTrailers());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw Status.CANCELLED.withDescription("interrupted").withCause(e).asRuntimeException();
    } finally {
      call.cancel("the file could not be read", null); // does nothing after the status
    }
  }
}
